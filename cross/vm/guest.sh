#!/usr/bin/env bash
# Makes a guest: a stock Debian kernel and an initrd of busybox, the drivers that stand in for
# hardware, and `init`. Result: $guest/{vmlinuz,initrd.zst,version}.
#
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Cameras: vivid (and its loop from output to capture), USB Video Class by a gadget whose cable to
# the host is a socket (USB over IP). Lines: gpio-sim. Displays: vfb, bochs, virtio-gpu; for small panels
# cuse, by which a test is an I²C bus.
# Watchdogs: softdog, i6300esb. The rest lets a full Debian run from a disk.
drivers=(vivid uvcvideo usb_f_uvc libcomposite usbip-vudc vhci-hcd
    gpio-sim
    vfb bochs virtio-gpu cuse
    softdog i6300esb
    configfs loop ext4 virtio_blk autofs4)

more=()
case $kernel in
new) suites="bookworm trixie-backports" from=trixie-backports ;;
6.12)
    [ "$arch" = amd64 ] || die "its drivers are compiled here, for amd64: ELEK_VM_KERNEL=6.12 has no guest for $arch"
    suites="bookworm bookworm-backports" from=bookworm-backports
    drivers+=(interrupt-cnt cnt-on-line)
    more=("$here/modules-6.12.sh" "$here/modules/"*)
    ;;
*) die "ELEK_VM_KERNEL is \`$kernel\`; it can be \`new\` or \`6.12\`" ;;
esac
# Made again when something that goes into it changes.
made_of=$(cat "$here/guest.sh" "$here/init" "${more[@]}" | sha256sum | cut -c1-64)
[ "$(cat "$guest/made-of" 2>/dev/null)" = "$made_of" ] && exit 0

say "making the guest \`$kernel\` for $arch (once)"
rm -rf "$guest/new" && mkdir -p "$guest/debs" "$guest/new"
# shellcheck disable=SC2086  # a list of suites
private_apt "$cache/apt-$kernel$kind" $suites

fetch_kernel() {
    apt-get -q update >/dev/null
    local version name parts
    version=$(apt-cache madison "linux-image-$arch" | awk -v s="$from/" 'index($0, s) {print $3; exit}')
    [ -n "$version" ] || die "$from has no kernel: see apt-cache madison linux-image-$arch"
    name=$(apt-cache show "linux-image-$arch=$version" | sed -n 's/^Depends:.*linux-image-\([^ ,]*\).*/\1/p' | head -1)
    # Newer kernels come in parts; all of them carry the kernel's name.
    parts=$(apt-cache depends "linux-image-$name" | sed -n 's/^ *Depends: \(linux-\(base\|binary\|modules\)-[0-9].*\)/\1/p')
    # shellcheck disable=SC2086  # a list of packages
    (cd "$guest/debs" && rm -f ./*.deb && apt-get -q download ${parts:-linux-image-$name} busybox-static >/dev/null)
    echo "$name" >"$guest/version"
}
[ -s "$guest/version" ] && ls "$guest/debs/"*.deb >/dev/null 2>&1 || fetch_kernel
version=$(cat "$guest/version")

root=$guest/new/packages
mkdir -p "$root"
for deb in "$guest/debs/"*.deb; do dpkg -x "$deb" "$root"; done
base=$root
[ -d "$root/usr/lib/modules/$version" ] && base=$root/usr
[ "$kernel" = new ] || "$here/modules-6.12.sh" "$version" "$base/lib/modules/$version/extra"
depmod -b "$base" "$version"

# The drivers and what they need, unpacked: busybox reads plain modules only.
initrd=$guest/new/initrd
modules=$initrd/lib/modules/$version
mkdir -p "$initrd"/{bin,sbin,etc,proc,sys,dev,tmp,run,root,lib64} "$modules"
for driver in "${drivers[@]}"; do
    modprobe -S "$version" -d "$base" --show-depends "$driver" 2>/dev/null ||
        say "$version has no driver $driver; tests that need it will say so"
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r module; do
    case $module in
    *.xz) xz -dc "$module" >"$modules/$(basename "$module" .xz)" ;;
    *) cp "$module" "$modules/" ;;
    esac
done
cp "$base/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$modules/"
depmod -b "$initrd" "$version"
cp "$root"/*bin/busybox "$root"/usr/bin/busybox "$initrd/bin/" 2>/dev/null || true
[ -x "$initrd/bin/busybox" ] || die "the package busybox-static holds no busybox"
install -m 755 "$here/init" "$initrd/init"
# Name resolution of users for what asks for it; nobody logs in.
echo 'root:x:0:0:root:/root:/bin/sh' >"$initrd/etc/passwd"
echo 'root:x:0:' >"$initrd/etc/group"
(cd "$initrd" && find . | cpio -o -H newc --quiet) | zstd -q -3 -f -o "$guest/initrd.zst"
cp "$base/lib/modules/$version/vmlinuz" "$guest/vmlinuz" 2>/dev/null ||
    cp "$root/boot/vmlinuz-$version" "$guest/vmlinuz" || die "the packages of $version hold no kernel"
rm -rf "$guest/new"
echo "$made_of" >"$guest/made-of"
say "guest \`$kernel\` for $arch: Linux $version"
