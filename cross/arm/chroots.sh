#!/usr/bin/env bash
# Runs a command, as root, while programs for ARM boxes run on this machine by emulation, also in a
# chroot that holds no emulator:
#
#   cross/arm/chroots.sh arm64 armv7 -- COMMAND...
#
# Mounts are the command's own. What the kernel was told is for the whole machine, and gone with the command.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
boxes=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    boxes+=("$1")
    shift
done
[ $# -gt 1 ] || die "usage: chroots.sh arm64|armv7... -- COMMAND..."
shift
[ "$(uname -m)" = x86_64 ] || die "this is for x86-64 machines: on others, native programs would be taken for the box's"
[ "$(id -u)" = 0 ] || die "a chroot needs root. Run: sudo $0 ${boxes[*]} -- $*"
[ "${ELEK_CHROOTS_INSIDE:-}" = yes ] || ELEK_CHROOTS_INSIDE=yes exec unshare --mount "$0" "${boxes[@]}" -- "$@"
unset ELEK_CHROOTS_INSIDE

misc=/proc/sys/fs/binfmt_misc
mountpoint -q $misc || mount -t binfmt_misc binfmt_misc $misc
forget() { for known in "$misc/elek-$$-"*; do [ ! -e "$known" ] || echo -1 >"$known"; done; }
trap forget EXIT
for wanted in "${boxes[@]}"; do
    name_of "$wanted"
    emulator=$(command -v "$qemu") || die "no $qemu here. Run: apt-get install qemu-user-static"
    # F: the emulator is opened now, so that it is there whatever the root is.
    hand_over "elek-$$-$box" "$emulator" F
done
"$@"
