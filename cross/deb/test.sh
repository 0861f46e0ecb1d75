#!/usr/bin/env bash
# Installs, upgrades, removes and purges the packages in a Debian of their own, as root, and looks after
# each step whether everything is as it should be; lintian first.
#
#   cross/deb/test.sh amd64 arm64 armhf      those that build.sh left in target/deb
#
# The Debian is a chroot with systemd installed but not running (cross/vm has one that runs), of the box's own
# kind: programs for ARM are emulated.
set -euo pipefail
. "$(dirname "$0")/../arm/lib.sh"
. "$project/cross/vm/lib.sh"
here=$project/cross/deb
cache=${ELEK_CROSS_CACHE:-$project/target/cross}
say() { echo "deb: $*" >&2; }
[ $# -gt 0 ] || die "say which packages: amd64, arm64, armhf"
[ "$(id -u)" = 0 ] || die "a chroot needs root. Run: sudo $0 $*"
out=${CARGO_TARGET_DIR:-$project/target}/deb
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$project/Cargo.toml" | head -1)

missing=()
command -v mmdebstrap >/dev/null 2>&1 || missing+=(mmdebstrap)
command -v lintian >/dev/null 2>&1 || missing+=(lintian)
# Tells mmdebstrap that programs for ARM run here.
command -v arch-test >/dev/null 2>&1 || missing+=(arch-test)
if [ ${#missing[@]} != 0 ]; then
    apt-get -q update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2
fi

# Mounts of its own, gone with this script; and programs of the boxes that run in a chroot.
if [ "${ELEK_DEB_INSIDE:-}" != yes ]; then
    export ELEK_DEB_INSIDE=yes
    boxes_of "$@"
    if [ ${#boxes[@]} = 0 ]; then exec unshare --mount "$0" "$@"; fi
    exec "$project/cross/arm/chroots.sh" "${boxes[@]}" -- "$0" "$@"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-deb-test.XXXXXX")
finish() {
    umount -R "$work"/*/proc 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

# debian ARCH : a minimal Debian with systemd, made once
debian() {
    local suite tar from
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    tar=$cache/debian-$suite-$1.tar from=$(mirror)
    if [ ! -e "$tar" ]; then
        say "making a Debian $suite for $1 (once)"
        mkdir -p "$cache"
        mmdebstrap --quiet --mode=root --format=tar --variant=apt --architectures="$1" --include=systemd,udev,procps \
            "$suite" "$tar.new" "deb $from $suite main"
        mv "$tar.new" "$tar"
    fi
    mkdir -p "$work/$1"
    tar -C "$work/$1" -xf "$tar"
    mount -t proc proc "$work/$1/proc"
}

# older DEB : the same as version 0.0.1 with another default configuration
older() {
    local tree=$work/older
    rm -rf "$tree"
    dpkg-deb -R "$1" "$tree"
    sed -i 's/^Version: .*/Version: 0.0.1/' "$tree/DEBIAN/control"
    sed -i '1i # The default of version 0.0.1.' "$tree/etc/elek/station.toml"
    sed -i '/^\[Service\]/a Environment=ELEK_OLDER=yes' "$tree"/lib/systemd/system/elek*.service
    dpkg-deb --root-owner-group -b "$tree" "$work/older.deb" >/dev/null
}

for arch in "$@"; do
    deb=$out/elek_${version}_$arch.deb
    [ -e "$deb" ] || die "there is no $deb: make deb"
    say "lintian: $deb"
    lintian --allow-root --fail-on error,warning,info --display-info "$deb"
    debian "$arch"
    older "$deb"
    cp "$work/older.deb" "$work/$arch/root/older.deb"
    cp "$deb" "$work/$arch/root/newer.deb"
    cp "$here/steps.sh" "$work/$arch/root/"
    say "$arch: installed, upgraded, removed, purged"
    chroot "$work/$arch" /bin/sh /root/steps.sh "$version"
    umount "$work/$arch/proc"
done
