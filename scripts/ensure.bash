# Sourced by start and test. What must be on the machine before the package can run, installed only where it is missing.
# The caller sets $script (its name in messages) and $repo (the checkout); $venv is its virtual environment.

venv=$repo/.venv
packages_to_run=(fuse3 gcc libc6-dev libfuse3-dev pkg-config python3 python3-dev python3-venv)
packages_to_test=(acl attr bindfs chromium chromium-driver diffutils git jq less make procps psmisc rsync sqlite3 strace systemd tar util-linux vim)

# die LINE...: one or two lines on stderr, what is wrong and the way out; exit 1.
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# run_quietly FAILURE REMEDY COMMAND...: the command's output is shown, its last lines, only if it fails.
run_quietly() {
    local failure=$1 remedy=$2 output
    shift 2
    output=$("$@" 2>&1 </dev/null) || {
        tail -n 15 <<<"$output" >&2
        die "$script: $failure" "$remedy"
    }
}

# missing_packages PACKAGE...: those that dpkg does not call installed, one a line.
missing_packages() {
    local states package
    states=$'\n'$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null)$'\n' || true
    for package; do
        [[ $states == *$'\n'"installed $package"$'\n'* ]] || printf '%s\n' "$package"
    done
}

# A package index that is absent (a fresh container) or stale shows as a failed install, so it is fetched only then.
# Its own failure does not count: a broken third-party source must not stop what Debian or Ubuntu can deliver.
install_packages() {
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120)
    local install=("${apt[@]}" install --no-install-recommends "$@")
    "${install[@]}" >/dev/null 2>&1 || {
        "${apt[@]}" update || true
        "${install[@]}"
    }
}

# Without a terminal sudo cannot ask for a password.
may_sudo() {
    command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }
}

# ensure_packages PACKAGE...
ensure_packages() {
    local missing as_root=()
    command -v dpkg-query >/dev/null || die \
        "$script: this is neither Debian nor Ubuntu (no dpkg-query), so it cannot install what is missing." \
        "Install what stands for: $*; then: python3 -m venv .venv && .venv/bin/pip install -e '.[test]'"
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        as_root=(sudo)
        may_sudo || die \
            "$script: missing packages, and $(id -un) may not install them: ${missing[*]}" \
            "As root: apt-get update && apt-get install -y ${missing[*]}"
    fi
    printf 'Installing with apt-get: %s\n' "${missing[*]}" >&2
    run_quietly "apt-get could not install: ${missing[*]}" \
        "Mend what apt-get says above (network, sources, a lock), then run $script again." \
        install_packages "${missing[@]}"
}

# Python's own tests are in a package that is named after its version, so python3 must be there first.
ensure_python_tests() {
    local python
    python=$(readlink -f /usr/bin/python3)
    ensure_packages "lib${python##*/}-testsuite"
}

# False for a venv whose Python has gone or has changed its minor version, and for one that was moved or copied here:
# its programs begin with the path of the place where it was made.
venv_works() {
    "$venv/bin/python" -I -c 'import pip' 2>/dev/null && head -n 3 "$venv/bin/pip" | grep -qF "$venv/bin/python"
}

make_venv() {
    # The system's own Python, as python3-venv and python3-dev belong to it and to no other one on PATH.
    local python=/usr/bin/python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die \
        "$script: LighthouseFS needs Python 3.11 or newer, and $python is $("$python" -V)." \
        "Use Debian 12, Ubuntu 24.04 or newer, or make $venv yourself with a newer python3 -m venv."
    printf 'Making a virtual environment in %s\n' "$venv" >&2
    run_quietly "no virtual environment could be made in $venv" \
        "Remove $venv if it belongs to somebody else or is damaged, then run $script again." \
        "$python" -m venv --clear "$venv"
}

# ensure_venv run|test|bench: the stamp is a copy of the pyproject.toml that was installed, as a checkout or a copy may
# give the file any modification time. What `test` or `bench` installed serves `run` too.
ensure_venv() {
    local purpose=$1 wanted=$repo/pyproject.toml extra= stamps=("$venv/installed-$1.toml") stamp
    if [[ $purpose == run ]]; then
        stamps+=("$venv/installed-test.toml" "$venv/installed-bench.toml")
    else
        extra="[$purpose]"
    fi
    if ! venv_works; then
        make_venv
    else
        for stamp in "${stamps[@]}"; do
            cmp -s "$wanted" "$stamp" && return
        done
    fi
    printf 'Installing lighthousefs%s into %s (pyfuse3 is compiled, a minute or so)\n' "$extra" "$venv" >&2
    run_quietly "pip could not install lighthousefs$extra into $venv" \
        "Mend what pip says above (network, rights on $venv, a compiler error), then run $script again." \
        env -C "$repo" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extra"
    cp -- "$wanted" "$venv/installed-$purpose.toml"
}

# True if this process has CAP_SYS_ADMIN (bit 21), which mount(2) asks for.
may_mount() {
    local key value
    while read -r key value; do
        [[ $key == CapEff: ]] && return $((!((16#$value >> 21) & 1)))
    done </proc/self/status
    return 1
}

# Whether FUSE can be used here at all, asked before anything is installed. Who is not root mounts by fusermount3.
ensure_fuse() {
    local container="In a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"
    container+=" --security-opt apparmor=unconfined"
    [[ -c /dev/fuse ]] || die "$script: nothing can be mounted here: there is no /dev/fuse." \
        "Load the kernel's module with: sudo modprobe fuse. $container"
    (exec 3<>/dev/fuse) 2>/dev/null || die "$script: nothing can be mounted here: $(id -un) may not open /dev/fuse." \
        "Run it as root or with sudo. $container"
    ((EUID)) || may_mount || die "$script: nothing can be mounted here: this root lacks CAP_SYS_ADMIN." "$container"
}
