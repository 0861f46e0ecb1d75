# shellcheck shell=bash
# What the scripts of this folder share; sourced, not run.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$project/cross/vm
# Guest kernels, initrds and the root file system: made once, some 300 MB. Safe to delete.
cache=${ELEK_VM_CACHE:-$project/target/vm}
# `new` is the newest kernel that Debian builds; it speaks GPIO uAPI v2 only. `6.12` speaks v1, too.
kernel=${ELEK_VM_KERNEL:-new}
# Which kind of box: `amd64`, or `arm64`, a board with a Cortex-A72 as a Raspberry Pi 4 has it.
arch=${ELEK_VM_ARCH:-amd64}

# Where Debian has modprobe, depmod and mke2fs; not every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

say() { echo "vm: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# shellcheck disable=SC2034  # used by the scripts that read it
case $arch in
amd64)
    # A plain old processor: the C library then keeps away from wide vectors, whose emulation takes as long as
    # all the rest.
    kind="" append="console=ttyS0" shift=1
    machine=(qemu-system-x86_64 -M q35 -cpu Nehalem)
    ;;
arm64)
    # Debian's kernel for it has no vfb: its display is one that a real driver (bochs) is for. Without
    # the start-up code for PCs, which comes with the emulator of a PC only.
    # A nanosecond an instruction: with two, the shipped models take longer than the shipped configuration allows.
    kind=-arm64 append="console=ttyAMA0" shift=0
    machine=(qemu-system-aarch64 -M virt -cpu cortex-a72 -device "bochs-display,xres=480,yres=320,romfile=")
    triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu
    ;;
*) die "ELEK_VM_ARCH is \`$arch\`; it can be \`amd64\` or \`arm64\`" ;;
esac
guest=$cache/guest-$kernel$kind
disk=$cache/disk$kind

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

# private_apt FOLDER SUITE... : an apt configuration that knows only these suites of the mirror, for
# the guest's kind of box, and keeps its lists in FOLDER; the machine's own apt is neither read nor changed. Exports APT_CONFIG.
private_apt() {
    local folder=$1 from
    shift
    from=$(mirror)
    mkdir -p "$folder"/{lists/partial,archives/partial,parts,sources}
    : >"$folder/status"
    cat >"$folder/sources/guest.sources" <<EOF
Types: deb
URIs: $from
Suites: $*
Components: main
Architectures: $arch
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    cat >"$folder/apt.conf" <<EOF
Dir::Etc { sourcelist "/dev/null"; sourceparts "$folder/sources"; preferences "/dev/null"; preferencesparts "$folder/parts"; };
Dir::State { Lists "$folder/lists"; status "$folder/status"; };
Dir::Cache { Archives "$folder/archives"; pkgcache ""; srcpkgcache ""; };
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
EOF
    export APT_CONFIG=$folder/apt.conf
}
