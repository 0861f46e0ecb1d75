#!/bin/sh
# Installs elek as a service on the machine it is run on, as root: install.sh ELEK
#
# ELEK is the binary. A configuration that is there already is kept. The services are enabled, and
# started by the next boot or by `systemctl start elek`.
set -eu

[ $# = 1 ] && [ -x "$1" ] || {
    echo "usage: install.sh ELEK, the binary (target/release/elek after make release)" >&2
    exit 2
}
here=$(cd "$(dirname "$0")" && pwd)

install -D -m 755 "$1" /usr/bin/elek
install -D -m 644 "$here/elek.service" /etc/systemd/system/elek.service
install -D -m 644 "$here/elek-outputs.service" /etc/systemd/system/elek-outputs.service
install -D -m 644 "$here/elek.sysusers" /etc/sysusers.d/elek.conf
install -D -m 644 "$here/elek.tmpfiles" /etc/tmpfiles.d/elek.conf
install -D -m 644 "$here/72-elek.rules" /etc/udev/rules.d/72-elek.rules

systemd-sysusers /etc/sysusers.d/elek.conf
systemd-tmpfiles --create /etc/tmpfiles.d/elek.conf
udevadm control --reload
udevadm trigger --subsystem-match=gpio --subsystem-match=counter --subsystem-match=watchdog --subsystem-match=misc \
    --subsystem-match=spidev --subsystem-match=i2c-dev
systemctl daemon-reload
systemctl enable --quiet elek-outputs.service elek.service

if [ ! -e /etc/elek/station.toml ]; then
    echo "Write /etc/elek/station.toml next (\`elek probe\` shows what this box has, \`elek config default\`"
    echo "is an example, \`elek check\` says whether a file can work), then: systemctl start elek"
fi
