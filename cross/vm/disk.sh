#!/usr/bin/env bash
# Makes the disk for tests that need systemd: a minimal Debian of this machine's own suite, so that
# binaries built here find the libraries they were linked to, with what the package of elek depends on,
# and what docs/INSTALL.md has a person run. Result: $disk.img (once).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

made_of=$(sha256sum <"$here/disk.sh" | cut -c1-64)
[ -e "$disk.img" ] && [ "$(cat "$disk.made-of" 2>/dev/null)" = "$made_of" ] && exit 0
[ "$(id -u)" = 0 ] || die "the disk with systemd has to be made as root. Run: sudo ELEK_VM_CACHE=$cache ELEK_VM_ARCH=$arch $here/disk.sh"

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
say "making a disk with Debian $suite for $arch and systemd (once, some minutes)"
mkdir -p "$cache"
root=$(mktemp -d "$cache/disk.XXXXXX")
trap 'rm -rf "$root"' EXIT
from=$(mirror)
emulated=()
[ "$arch" = "$(dpkg --print-architecture)" ] || emulated=("$project/cross/arm/chroots.sh" arm64 --)
"${emulated[@]}" mmdebstrap --quiet --variant=apt --architectures="$arch" --format=directory \
    --include=systemd,udev,kmod,dbus,procps,libgcc-s1,sudo,adduser "$suite" "$root" "$from"

# Results go to the host as they do without a disk; then the machine is switched off.
cat >"$root/usr/local/sbin/elek-guest" <<'EOF'
#!/bin/sh
port() { for p in /sys/class/virtio-ports/*; do [ "$(cat "$p/name")" = "$1" ] && echo "/dev/${p##*/}"; done; }
out=$(port output)
uptime() { cut -d' ' -f1 /proc/uptime; }
echo "guest: Linux $(uname -r), systemd, up after $(uptime) s" >"$out"
cd /test && sh ./run.sh >"$out" 2>&1 </dev/null
code=$?
echo "guest: ended with $code after $(uptime) s" >"$out"
echo $code >"$(port result)"
sync
systemctl poweroff --force --force
EOF
chmod 755 "$root/usr/local/sbin/elek-guest"
cat >"$root/etc/systemd/system/elek-guest.service" <<'EOF'
[Unit]
Description=The test that the host wants to have run
After=basic.target systemd-udev-settle.service
[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=/usr/local/sbin/elek-guest
[Install]
WantedBy=multi-user.target
EOF
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../elek-guest.service "$root/etc/systemd/system/multi-user.target.wants/"
# What a minute of emulated processor time would go into, and no test looks at.
for unit in systemd-timesyncd.service systemd-update-utmp.service getty@tty1.service e2scrub_reap.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
    systemd-firstboot.service first-boot-complete.target; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
echo guest >"$root/etc/hostname"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
rm -rf "$root"/usr/share/{doc,man,locale,info} "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
mke2fs -q -t ext4 -d "$root" -L elek-guest "$disk.img.new" 1G
mv "$disk.img.new" "$disk.img"
echo "$made_of" >"$disk.made-of"
