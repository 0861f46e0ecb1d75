#!/bin/sh
# Inside the chroot of test.sh: older.deb and newer.deb lie beside this script. Says what it does; stops
# at the first thing that is not as it should be.
set -eu
cd /root
version=$1
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
config=/etc/elek/station.toml

step() { echo "  $*"; }
wrong() {
    echo "wrong: $*" >&2
    exit 1
}
is() { # WHAT FOUND WANTED
    [ "$2" = "$3" ] || wrong "$1: found \`$2\`, wanted \`$3\`"
}
has() { [ -e "$1" ] || wrong "$1 is missing"; }
lacks() { [ ! -e "$1" ] || wrong "$1 is still there"; }
apt() {
    apt-get -q -y --no-install-recommends --allow-downgrades "$@" >log 2>&1 || {
        cat log
        wrong "apt-get $*"
    }
}
files() {
    find / -xdev \( -path /root -o -path /proc -o -path /run -o -path /tmp -o -path /dev -o -path /var/log -o -path /var/cache \
        -o -path /var/lib/dpkg -o -path /var/lib/apt \) -prune -o -print | sort
}

# No mirror: everything that it depends on is there.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d

files >before
step "install: user, folders, services neither enabled nor started, configuration good"
apt install ./older.deb
is version "$(dpkg-query -W -f '${Version}' elek)" 0.0.1
is program "$(elek --version)" "elek $version"
getent passwd elek >/dev/null || wrong "there is no user elek"
is "user's shell" "$(getent passwd elek | cut -d: -f7)" /usr/sbin/nologin
is "record's folder" "$(stat -c '%U %G %a' /var/lib/elek)" "elek elek 750"
is configuration "$(stat -c '%U %G %a' $config)" "root root 644"
has /lib/udev/rules.d/72-elek.rules
for unit in elek elek-outputs; do
    has /lib/systemd/system/$unit.service
    is "$unit enabled" "$(systemctl is-enabled $unit || true)" disabled
done
systemd-analyze verify --man=no elek.service elek-outputs.service
elek check $config >/dev/null
grep -q '/var/lib/elek"' $config || wrong "the record does not go to /var/lib/elek"
for page in elek elek-run elek-status; do
    zcat /usr/share/man/man1/$page.1.gz | grep -q '^\.TH' || wrong "no manual page $page"
done
bash -n /usr/share/bash-completion/completions/elek
bash -c '. /usr/share/bash-completion/completions/elek; complete -p elek' >/dev/null
has /usr/share/zsh/vendor-completions/_elek
has /usr/share/fish/vendor_completions.d/elek.fish
elek model info builtin:cap-classify | grep -q cap-classify || wrong "the shipped model does not load"

step "the user elek can run the station's core, and write the record"
setpriv --reuid elek --regid elek --init-groups sh -c \
    'elek simulate --seeds 2 >/dev/null && echo kept >/var/lib/elek/witness'

step "enabled as docs/INSTALL.md says"
systemctl -q enable elek 2>/dev/null
is "elek enabled" "$(systemctl is-enabled elek)" enabled

step "upgrade, configuration as it was shipped: the new one takes its place"
apt install ./newer.deb
is version "$(dpkg-query -W -f '${Version}' elek)" "$version"
! grep -qF 'version 0.0.1' $config || wrong "the old default is still there"
! grep -q ELEK_OLDER /lib/systemd/system/elek*.service || wrong "the old units are still there"
is "elek enabled" "$(systemctl is-enabled elek)" enabled

step "upgrade, configuration changed: it stays, the new default lies beside it"
apt install ./older.deb
echo '# changed at the belt' >>$config
apt -o Dpkg::Options::=--force-confold install ./newer.deb
grep -q 'changed at the belt' $config || wrong "the changed configuration is lost"
has $config.dpkg-dist
elek check $config >/dev/null

step "remove: program and services go, configuration and record stay"
apt remove elek
lacks /usr/bin/elek
lacks /lib/systemd/system/elek.service
has $config
has /var/lib/elek/witness

step "install again: the changed configuration is in force"
apt -o Dpkg::Options::=--force-confold install ./newer.deb
grep -q 'changed at the belt' $config || wrong "the changed configuration is lost"

step "purge: configuration goes, the record stays and is named"
apt purge elek
grep -q 'record in /var/lib/elek is kept' log || wrong "nobody says that the record stays"
has /var/lib/elek/witness
lacks /etc/elek
lacks /etc/systemd/system/multi-user.target.wants/elek.service

step "purge without a record: nothing is left but the user"
rm /var/lib/elek/witness
apt install ./newer.deb
apt purge elek
files >after
diff before after >left || true
sed -n 's/^[<>] //p' left | grep -v -x -e /etc/passwd- -e /etc/group- -e /etc/shadow- -e /etc/gshadow- -e '/etc/.*lock' -e '/var/lib/systemd/.*' \
    -e '/var/lib/systemd' >rest || true
[ ! -s rest ] || wrong "left behind: $(cat rest)"
