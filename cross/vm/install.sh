#!/usr/bin/env bash
# What the virtual machine of this kind of box needs on this machine, by package name. As root it installs what is
# missing; otherwise it says what to run. Quick when there is nothing to do.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

missing=()
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
case $arch in
amd64) need qemu-system-x86_64 qemu-system-x86 ;;
arm64)
    need qemu-system-aarch64 qemu-system-arm
    # For the disk, whose packages are set up by programs of their own.
    need qemu-aarch64-static qemu-user-static
    need arch-test arch-test
    ;;
esac
need modprobe kmod
need cpio cpio
need zstd zstd
need xz xz-utils
need mke2fs e2fsprogs
need mmdebstrap mmdebstrap
[ ${#missing[@]} = 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    die "the virtual machine needs these Debian packages: ${missing[*]}"
fi
if [ "$(id -u)" != 0 ]; then
    die "the virtual machine needs more packages. Run: sudo apt-get install --no-install-recommends ${missing[*]}"
fi

say "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
options=(-q -y --no-install-recommends)
apt-get -q update >&2
if apt-get "${options[@]}" -s install "${missing[@]}" >/dev/null 2>&1; then
    apt-get "${options[@]}" install "${missing[@]}" >&2
    exit 0
fi
# Parts of qemu from backports can already be on the machine; the rest then has to come from there
# too. Backports are read from a list of our own, so that /etc/apt stays as it is.
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME-backports")
own=$(mktemp -d)
trap 'rm -r "$own"' EXIT
mkdir -p "$own/sources" "$own/lists/partial"
from=$(mirror)
cp /etc/apt/sources.list.d/debian.sources "$own/sources/" 2>/dev/null || cp /etc/apt/sources.list "$own/sources/debian.list"
cat >"$own/sources/backports.sources" <<EOF
Types: deb
URIs: $from
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
options+=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$own/sources" -o "Dir::State::lists=$own/lists")
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" -t "$suite" install "${missing[@]}" >&2
