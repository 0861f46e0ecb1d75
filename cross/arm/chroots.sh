#!/usr/bin/env bash
# Runs a command, as root, while programs for 64-bit ARM boxes run on this machine by emulation, also
# in a chroot that holds no emulator:
#
#   cross/arm/chroots.sh COMMAND...
#
# Mounts are the command's own. What the kernel was told is for the whole machine, and gone with the command.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || die "usage: chroots.sh COMMAND..."
[ "$(id -u)" = 0 ] || die "a chroot needs root. Run: sudo $0 $*"
[ "${ELEK_CHROOTS_INSIDE:-}" = yes ] || ELEK_CHROOTS_INSIDE=yes exec unshare --mount "$0" "$@"
unset ELEK_CHROOTS_INSIDE

name_of arm64
emulator=$(command -v "$qemu") || die "no $qemu here. Run: apt-get install qemu-user-static"
misc=/proc/sys/fs/binfmt_misc
mountpoint -q $misc || mount -t binfmt_misc binfmt_misc $misc
# ELF header: class, byte order, version; executable or shared object; machine. F: the emulator is opened
# now, so that it is there whatever the root is.
printf '%s' ":elek-chroot-$$:M::$elf:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$emulator:F" \
    >$misc/register
trap 'echo -1 >"$misc/elek-chroot-$$"' EXIT
"$@"
