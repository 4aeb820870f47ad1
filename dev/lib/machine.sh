# Sourced: what the machine must have. Every function is quick when there is nothing to do.
# shellcheck shell=bash

# The first stable compiler that builds this edition with the lints in use (rust-version of Cargo.toml).
RUST_MINOR=95

DEMO_PACKAGES=(
    build-essential pkg-config libssl-dev ca-certificates
    python3 python3-venv rabbitmq-server systemd-container debootstrap debian-archive-keyring
    iproute2 util-linux e2fsprogs xfsprogs rsync
    swift-proxy swift-account swift-container swift-object memcached
)
TEST_PACKAGES=("${DEMO_PACKAGES[@]}" keystone python3-keystonemiddleware git iptables docker.io mariadb-server mariadb-backup redis-server postgresql libcurl4 dnf rpm createrepo-c prometheus)

# What diskimage-builder runs. (It calls sudo, which for root is of no effect; nothing in the image needs it.)
IMAGE_PACKAGES=(python3-venv debootstrap debian-archive-keyring qemu-utils kpartx dosfstools gdisk parted sudo rsync)
# What boots an image as a machine, with a config drive.
MACHINE_PACKAGES=(qemu-system-x86 genisoimage)

# install_packages NAME...: installs what is missing, without letting any package start a server.
install_packages() {
    local name missing=()
    for name in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ "${#missing[@]}" -gt 0 ] || { say "all packages are there"; return 0; }
    say "installing: ${missing[*]}"
    mkdir -p "$CACHE"
    (
        hold_services
        trap release_services EXIT
        apt-get update -q
        apt-get install -q -y --no-install-recommends "${missing[@]}"
    ) >"$CACHE/apt.log" 2>&1 </dev/null || { tail -n 20 "$CACHE/apt.log" >&2; return 1; }
}

# Debian starts a server as soon as it is installed, unless policy-rc.d says no (101). One that is there already stays.
POLICY=/usr/sbin/policy-rc.d
hold_services() {
    [ -e "$POLICY" ] && return
    printf '#!/bin/sh\n# made by trove-guestagent dev\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}
release_services() {
    if grep -qs 'made by trove-guestagent dev' "$POLICY"; then rm -f "$POLICY"; fi
}

# Takes the compiler on the PATH when it is new enough, else the one Debian ships for its browsers, which is kept current.
install_rust() {
    if rust_is_new_enough; then say "$(rustc --version)"; return; fi
    install_packages rustc-web cargo-web rust-web-clippy rustfmt-web || true
    hash -r
    rust_is_new_enough || die "a Rust compiler of at least 1.$RUST_MINOR is needed: install one with rustup and run this again"
    say "$(rustc --version)"
}
rust_is_new_enough() {
    local version
    version=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$version" ] && [ "$version" -ge "$RUST_MINOR" ]
}

# The kernel's default of 128 inotify instances a user is used up by some ten guests: each systemd and what it starts takes a dozen.
INOTIFY_INSTANCES=4096
raise_limits() {
    local setting=/proc/sys/fs/inotify/max_user_instances
    [ "$(<"$setting")" -ge "$INOTIFY_INSTANCES" ] || echo "$INOTIFY_INSTANCES" >"$setting"
    say "$(<"$setting") inotify instances a user"
}

CARGO_DENY=0.20.2
install_cargo_deny() { install_cargo_tool cargo-deny "$CARGO_DENY"; }
CARGO_DEB=3.8.0
install_cargo_deb() { install_cargo_tool cargo-deb "$CARGO_DEB"; }
CARGO_CYCLONEDX=0.5.9
install_cargo_cyclonedx() { install_cargo_tool cargo-cyclonedx "$CARGO_CYCLONEDX"; }
CARGO_FUZZ=0.13.2
install_cargo_fuzz() { install_cargo_tool cargo-fuzz "$CARGO_FUZZ"; }

# install_cargo_tool NAME VERSION: puts it on the PATH, built once into the cache; without optimization, which takes longer than it saves.
install_cargo_tool() {
    local name=$1 version=$2 root=$CACHE/$1-$2
    if [ ! -x "$root/bin/$name" ]; then
        say "building $name $version"
        cargo install --quiet --locked --debug --version "$version" --root "$root" "$name" </dev/null
    fi
    PATH=$root/bin:$PATH
    cargo "${name#cargo-}" --version
}

# Sets VENV to a virtual environment of exactly these requirements, made unless it is there.
install_python() {
    local requirements=$REPOSITORY/dev/lib/requirements.txt constraints=$REPOSITORY/dev/lib/constraints.txt key
    key=$({ cat "$requirements" "$constraints"; /usr/bin/python3 --version; } | sha256sum | cut -c1-12)
    VENV=$CACHE/venv-$key
    export VENV TROVE_TEST_PYTHON=$VENV/bin/python
    mkdir -p "$CACHE"
    exec 9>"$CACHE/venv-$key.lock"
    flock 9
    if [ ! -e "$VENV/complete" ]; then
        say "making $VENV"
        rm -rf "$VENV"
        /usr/bin/python3 -m venv "$VENV"
        "$VENV/bin/pip" install -q --disable-pip-version-check -r "$requirements" -c "$constraints" </dev/null
        touch "$VENV/complete"
    fi
    exec 9>&-
}

bench() { PYTHONPATH=$REPOSITORY/dev "$TROVE_TEST_PYTHON" -m "$@"; }

