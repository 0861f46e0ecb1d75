#!/usr/bin/env bash
# Compiles the drivers that Debian's 6.12 kernel comes without: gpio-sim (with the simulated
# interrupts it needs), the counter framework, and interrupt-cnt, which counts on a line.
#
#   modules-6.12.sh VERSION FOLDER     into FOLDER, for the kernel of that name
#
# They come from the kernel's own source package and are compiled against its headers; nothing of
# them is kept in this repository. Needs gcc and make. Takes a minute and some 300 MB, once.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

version=$1 into=$2
for tool in gcc make; do
    command -v "$tool" >/dev/null 2>&1 || die "compiling drivers for $version needs $tool (Debian: build-essential)"
done
work=$cache/modules-$version
mkdir -p "$work/debs"

# guest.sh has chosen the suites and exported APT_CONFIG.
fetch() {
    local needed
    needed=$(apt-cache depends "linux-headers-$version" |
        sed -n 's/^ *Depends: \(linux-\(headers-.*-common\|kbuild-.*\)\)/\1/p')
    # shellcheck disable=SC2086  # a list of packages
    (cd "$work/debs" && apt-get -q download "linux-headers-$version" $needed linux-source-6.12 >/dev/null)
}
ls "$work/debs/"linux-source*.deb >/dev/null 2>&1 || fetch
root=$work/root
for deb in "$work/debs/"*.deb; do dpkg -x "$deb" "$root"; done
headers=$root/usr/src/linux-headers-$version
# Headers expect to lie in /usr/src.
sed -i "s#^include /usr/src/#include $root/usr/src/#" "$headers/Makefile"

source=$work/linux-source-6.12
rm -rf "$source" "$work/build" && mkdir -p "$work/build"
tar -xJf "$root/usr/src/linux-source-6.12.tar.xz" -C "$work" \
    linux-source-6.12/drivers/counter linux-source-6.12/drivers/gpio/gpio-sim.c \
    linux-source-6.12/drivers/gpio/dev-sync-probe.h linux-source-6.12/kernel/irq/irq_sim.c 2>/dev/null ||
    [ -s "$source/kernel/irq/irq_sim.c" ] || die "the sources of $version are not where they were"
cd "$work/build"
cp "$source"/drivers/counter/{counter-core,counter-sysfs,counter-chrdev,interrupt-cnt}.c "$source"/drivers/counter/*.h .
cp "$source/drivers/gpio/gpio-sim.c" sim.c
# Modules may not take hold of an interrupt's descriptor; by its number they may.
sed 's/handle_simple_irq(irq_to_desc(irqnum));/generic_handle_irq(irqnum);/' "$source/kernel/irq/irq_sim.c" >irq_sim.c
cp "$here/modules/cnt-on-line.c" .
cat >Kbuild <<'EOF'
obj-m := gpio-sim.o counter.o interrupt-cnt.o cnt-on-line.o
gpio-sim-y := sim.o irq_sim.o
counter-y := counter-core.o counter-sysfs.o counter-chrdev.o
ccflags-y := -DCONFIG_IRQ_SIM=1 -DCONFIG_COUNTER=1
EOF
make -C "$headers" M="$PWD" CONFIG_DEBUG_INFO_BTF_MODULES= modules >make.log 2>&1 ||
    { tail -n 20 make.log >&2 && die "drivers for $version do not compile"; }
mkdir -p "$into" && cp ./*.ko "$into/"
