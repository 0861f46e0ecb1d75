#!/usr/bin/env bash
# Boots the guest and runs FOLDER/test/run.sh in it: run.sh FOLDER
#
# FOLDER is laid over the guest's root. Prints what the script prints, ends with its exit code.
# The guest is emulated (TCG): it needs no rights and no KVM. Its clock counts instructions (2 ns each, on the
# arm64 board 1 ns) and skips what nobody waits for, so that a guest is a machine of 500 MIPS, the board one of
# 1,000, however busy this one is: nothing in it is late because of something outside.
#
# ELEK_VM_ARCH=arm64  a board with Debian's kernel for arm64 instead of a PC (amd64)
# ELEK_VM_DISK=1     a Debian with systemd from a disk image instead of busybox (changes are dropped)
# ELEK_VM_SECONDS=N  give up after N seconds (1800)
# ELEK_VM_KEEP=1     keep the console's file and say where
# ELEK_VM_CACHE=FOLDER  where the guests are kept (target/vm)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# = 1 ] && [ -f "$1/test/run.sh" ] || die "usage: run.sh FOLDER, which holds test/run.sh"
payload=$(cd "$1" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-vm.XXXXXX")
trap '[ -n "${ELEK_VM_KEEP:-}" ] && say "kept $work" || rm -rf "$work"' EXIT

# The kernel takes several archives in one file; the plain one comes first, because it ends on a
# boundary that the next one may start at.
(cd "$payload" && find . | cpio -o -L -H newc --quiet 2>/dev/null) >"$work/initrd"
cat "$guest/initrd.zst" >>"$work/initrd"
: >"$work/result"

options=()
# Guards against what other programs could guess by timing are worth nothing here, and emulated they cost a quarter.
append+=" quiet panic=-1 oops=panic mitigations=off cryptomgr.notests"
if [ -n "${ELEK_VM_DISK:-}" ]; then
    append+=" elek.disk"
    options+=(-drive "file=$disk.img,format=raw,if=virtio,snapshot=on")
fi

code=0
# The output goes through a pipe of its own: qemu would empty a log file that it opens, and makes
# what it writes to non-blocking, which must not happen to a terminal that others write to as well.
timeout -k 5 "${ELEK_VM_SECONDS:-1800}" "${machine[@]}" -accel tcg,thread=single -icount "shift=$shift,sleep=off" \
    -rtc clock=vm -m 1536 \
    -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$guest/vmlinuz" -initrd "$work/initrd" -append "$append" \
    -serial "file:$work/console" -device virtio-serial-pci -device virtio-rng-pci \
    -chardev file,id=output,path=/dev/stdout -device virtserialport,chardev=output,name=output \
    -chardev "file,id=result,path=$work/result" -device virtserialport,chardev=result,name=result \
    "${options[@]}" </dev/null | cat || code=$?

result=$(tr -d '\r\n' <"$work/result")
if [ -z "$result" ]; then
    [ $code = 124 ] && say "the guest was not done within ${ELEK_VM_SECONDS:-1800} s"
    say "the guest gave no result (qemu ended with $code); the end of its console:"
    tail -n 40 "$work/console" >&2
    exit 125
fi
exit "$result"
