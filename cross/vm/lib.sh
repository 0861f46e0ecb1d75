# shellcheck shell=bash
# What the scripts of this folder share; sourced, not run.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$project/cross/vm
# Guest kernels, initrds and the root file system: made once, some 300 MB. Safe to delete.
cache=${ELEK_VM_CACHE:-$project/target/vm}
# `new` is the newest kernel that Debian builds; it speaks GPIO uAPI v2 only. `6.12` speaks v1, too.
kernel=${ELEK_VM_KERNEL:-new}

say() { echo "vm: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# The machine's own Debian mirror, so that a box behind a proxy or a local mirror keeps using it.
mirror() {
    local found=""
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        found=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
    elif [ -e /etc/apt/sources.list ]; then
        found=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\/debian\/\?\) .*/\2/p' /etc/apt/sources.list | head -1)
    fi
    [ -n "$found" ] || die "no Debian mirror found in /etc/apt: the guests are made of Debian packages"
    echo "$found"
}

# private_apt FOLDER SUITE... : an apt configuration that knows only these suites of the mirror and
# keeps its lists in FOLDER; the machine's own apt is neither read nor changed. Exports APT_CONFIG.
private_apt() {
    local folder=$1
    shift
    mkdir -p "$folder"/{lists/partial,archives/partial,parts,sources}
    : >"$folder/status"
    cat >"$folder/sources/guest.sources" <<EOF
Types: deb
URIs: $(mirror)
Suites: $*
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    cat >"$folder/apt.conf" <<EOF
Dir::Etc { sourcelist "/dev/null"; sourceparts "$folder/sources"; preferences "/dev/null"; preferencesparts "$folder/parts"; };
Dir::State { Lists "$folder/lists"; status "$folder/status"; };
Dir::Cache { Archives "$folder/archives"; pkgcache ""; srcpkgcache ""; };
APT::Sandbox::User "root";
Acquire::Languages "none";
EOF
    export APT_CONFIG=$folder/apt.conf
}
