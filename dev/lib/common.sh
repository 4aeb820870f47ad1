# Sourced by the commands of dev/: messages, steps with their time, and the machine's needs.
# shellcheck shell=bash

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${TROVE_DEV_CACHE:-/var/cache/trove-guestagent-dev}
export TROVE_DEV_CACHE=$CACHE PYTHONDONTWRITEBYTECODE=1 DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() {
    [ "$(id -u)" -eq 0 ] || die "run this as root: it installs packages, makes guests and mounts file systems"
    command -v apt-get >/dev/null || die "this needs a Debian or Ubuntu machine (apt-get is not there)"
}

# step NAME COMMAND...: runs the command under a heading and tells how long it took. The command is not part of a
# condition, so that errexit holds inside the functions it calls; `leave` tells which step failed.
STEP=
step() {
    local name=$1 began=$SECONDS
    shift
    STEP=$name
    printf '\n==> %s\n' "$name"
    "$@"
    STEP=
    printf '==> %s: %s s\n' "$name" "$((SECONDS - began))"
}

# check NAME COMMAND...: a step whose failure is told at the end (`all_passed`), after the others had their turn. In a subshell: it sets nothing.
FAILED=()
check() {
    local name=$1 began=$SECONDS status
    shift
    printf '\n==> %s\n' "$name"
    set +e
    (set -e; "$@")
    status=$?
    set -e
    if [ "$status" -ne 0 ]; then FAILED+=("$name (status $status)"); fi
    printf '==> %s: %s s, status %s\n' "$name" "$((SECONDS - began))" "$status"
}

# What `check` found, and, from the files of `REPORTS`, what failed in it.
REPORTS=$(mktemp -d)
all_passed() {
    [ "${#FAILED[@]}" -gt 0 ] || return 0
    printf '\n==> what failed:\n'
    find "$REPORTS" -type f -exec cat {} +
    for name in "${FAILED[@]}"; do say "==> FAILED: $name"; done
    return 1
}

# Directories made for this run only.
SCRATCH=("$REPORTS")
leave() {
    local status=$?
    if [ "$status" -ne 0 ] && [ -n "$STEP" ]; then printf '==> %s: FAILED (status %s)\n' "$STEP" "$status" >&2; fi
    if [ "${#SCRATCH[@]}" -gt 0 ]; then rm -rf "${SCRATCH[@]}"; fi
    exit "$status"
}
trap leave EXIT
