#!/usr/bin/env bash
# Runs a command in a world of its own where programs for ARM run like the machine's own, and so do
# the programs that they start in turn:
#
#   cross/arm/emulate.sh arm64 cortex-a53 COMMAND...
#   cross/arm/emulate.sh armv7 max COMMAND...
#
# The world is a user namespace with binfmt_misc of its own (Linux 6.7 or newer; no right beyond that of
# making namespaces). Nothing outside of it changes, and it is gone with the command.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 3 ] || die "usage: emulate.sh arm64|armv7 CPU COMMAND..."
name_of "$1"
cpu=$2
shift 2

if [ "${ELEK_EMULATE_INSIDE:-}" != "$triple" ]; then
    ELEK_EMULATE_INSIDE=$triple exec unshare --user --map-root-user --mount "$0" "$box" "$cpu" "$@"
fi

unset ELEK_EMULATE_INSIDE
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
    die "this kernel cannot hand programs to an emulator within a namespace: Linux 6.7 or newer is needed"
# What the kernel starts for such a program: it hands over the path, then the arguments.
world=$(mktemp -d "${TMPDIR:-/tmp}/elek-emulate.XXXXXX")
mount -t tmpfs -o mode=755 tmpfs "$world"
cat >"$world/run" <<END
#!/bin/sh
exec $qemu -cpu $cpu -L /usr/$gnu "\$@"
END
chmod 755 "$world/run"
hand_over "elek-$box" "$world/run"
code=0
"$@" || code=$?
umount "$world" && rmdir "$world"
exit $code
