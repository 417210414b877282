# Sourced by install and uninstall: where LighthouseFS is installed. The caller sets $script and $repo, has sourced
# ensure.bash, and has a function `usage`.

wrong_usage() {
    printf '%s: %s\n' "$script" "$1" >&2
    usage | head -n 1 >&2
    exit 2
}

# parse_prefix ARGUMENT...: sets $prefix ("" for the machine itself) and all the places.
parse_prefix() {
    prefix=
    while (($#)); do
        case $1 in
        -h | --help) usage && exit ;;
        --prefix) (($# > 1)) || wrong_usage "--prefix needs a folder" && prefix=$2 && shift ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        *) wrong_usage "there is no option or argument $1" ;;
        esac
        [[ $prefix ]] || wrong_usage "DIR cannot be empty"
        shift
    done
    prefix=$(realpath -m -- "${prefix:-/}")
    # In a unit, in sed and in the first line of a program these letters, and no others, stand for themselves.
    [[ $prefix =~ ^[A-Za-z0-9/._+-]+$ ]] || wrong_usage "DIR may have letters, digits and ._+- in its path: $prefix"
    prefix=${prefix%/}
    opt=$prefix/opt/lighthousefs
    venv=$opt
    command=$prefix/usr/local/bin/lighthousefs
    # For software of a machine's own (systemd.unit(5)); an administrator's /etc/systemd/system goes before it.
    unit=$prefix/usr/local/lib/systemd/system/lighthousefs@.service
    settings=$prefix/etc/lighthousefs
    stores=$prefix/var/lib/lighthousefs
}

require_root() {
    [[ $prefix ]] || ((EUID == 0)) || die "$script: only root can do this to the whole machine." "Run it with sudo."
}

is_our_command() {
    [[ -L $command && $(readlink -- "$command") == "$venv/bin/lighthousefs" ]]
}

# Where systemd runs the machine, and it is the machine that changed.
reload_systemd() {
    [[ $prefix || ! -d /run/systemd/system ]] || systemctl daemon-reload
}
