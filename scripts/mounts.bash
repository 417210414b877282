# Sourced by start and stop. Where the demo is, and which LighthouseFS is mounted where: read from the kernel's table
# and never by looking at a mount point, as looking at a dead mount fails and at a stuck one waits.

# demo_folder: the folder with the demo's store and mount. A relative XDG_STATE_HOME is to be ignored (XDG Base
# Directory Specification); an unset HOME is looked up by the tilde.
demo_folder() {
    local state=${XDG_STATE_HOME:-}
    [[ $state == /* ]] || state=~/.local/state
    realpath -m -- "$state/lighthousefs/demo"
}

# absolute PATH: links resolved, whether or not it exists.
absolute() {
    realpath -m -- "$1"
}

# each_mount: for every mount of LighthouseFS, in whatever layout, its mount point and its store, a NUL after each, the
# newest mount last. The kernel writes blanks and backslashes of names in octal.
each_mount() {
    local source point type
    while read -r source point type _; do
        # As a format, where \040 has three digits and no more; for %b it would be \0 and up to three of what follows.
        # shellcheck disable=SC2059
        [[ $type != fuse.lighthousefs?(-project) ]] || printf "${point//%/%%}\\0${source//%/%%}\\0"
    done </proc/self/mounts
}

# store_at MOUNTPOINT: the store mounted there, nothing if none is.
store_at() {
    local point store found=
    while IFS= read -r -d '' point && IFS= read -r -d '' store; do
        [[ $point != "$1" ]] || found=$store
    done < <(each_mount)
    printf '%s' "$found"
}

# mount_point_of STORE: where that store is mounted, nothing if it is not.
mount_point_of() {
    local point store found=
    while IFS= read -r -d '' point && IFS= read -r -d '' store; do
        [[ $store != "$1" ]] || found=$point
    done < <(each_mount)
    printf '%s' "$found"
}
