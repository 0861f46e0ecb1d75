# shellcheck shell=bash
# shellcheck disable=SC2034  # what is set here is used by the scripts that read it
# What the scripts of this folder share; sourced, not run.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$project/cross/arm
# Compiler and libraries unpacked from Debian packages: some 900 MB. Safe to delete.
cache=${ELEK_CROSS_CACHE:-$project/target/cross}

say() { echo "arm: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# name_of arm64|armv7 : sets everything that differs between the two.
#   box    this word, triple   Rust's name, gnu   that of the C compiler, arch   Debian's
#   qemu   the emulator, elf   how its programs begin
name_of() {
    box=$1
    case $1 in
    arm64)
        triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu arch=arm64 qemu=qemu-aarch64-static
        elf='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
        ;;
    armv7)
        triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf arch=armhf qemu=qemu-arm-static
        elf='\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00'
        ;;
    *) die "unknown kind of box: $1 (arm64 or armv7)" ;;
    esac
}

# boxes_of ARCH... : sets `boxes`, those of Debian's architectures that are ARM
boxes_of() {
    local arch
    boxes=()
    for arch in "$@"; do
        case $arch in
        amd64) ;;
        arm64) boxes+=(arm64) ;;
        armhf) boxes+=(armv7) ;;
        *) die "unknown architecture: $arch (amd64, arm64 or armhf)" ;;
        esac
    done
}

# hand_over NAME PROGRAM [FLAGS] : the kernel starts this program for those of the box that name_of was called for
hand_over() {
    # ELF header: class, byte order, version; executable or shared object; machine.
    printf '%s' ":$1:M::$elf:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$2:${3:-}" \
        >/proc/sys/fs/binfmt_misc/register
}

# env_of arm64|armv7 : exports what cargo needs to build for it and to run what it built.
env_of() {
    name_of "$1"
    local upper
    upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc"
    export "CARGO_TARGET_${upper}_RUNNER=$qemu -L /usr/$gnu"
    # For what is C in the graph (SQLite) and for the bindings of Video4Linux.
    export "CC_${triple//-/_}=$gnu-gcc" "AR_${triple//-/_}=$gnu-ar"
    export "BINDGEN_EXTRA_CLANG_ARGS_${triple//-/_}=-isystem /usr/$gnu/include"
    # Debian's compiler, where rustup's has no library for this target.
    if [ -x "$cache/bin/cargo" ] && ! has_target; then
        PATH=$cache/bin:$PATH
        export PATH
        # Not what a rustup proxy would choose.
        unset RUSTUP_TOOLCHAIN
    fi
}

# The machine's own Rust can build for it.
has_target() {
    local root
    root=$(rustc --print sysroot 2>/dev/null) && [ -d "$root/lib/rustlib/$triple/lib" ]
}
