#!/bin/sh
# Checks for the few things a build needs and installs what is missing where it may:
#
#   cross/setup.sh              for a build with the machine's own Rust
#   cross/setup.sh no-rust      for one whose Rust cross/arm/toolchain.sh brings
set -eu

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
# The bindings of Video4Linux are made from the kernel's header by libclang, which looks for its own headers.
# shellcheck disable=SC2010  # whether there is any, whatever its name
ls /usr/lib/llvm-*/lib/libclang.so* >/dev/null 2>&1 &&
    ls /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h 2>/dev/null | grep -q . ||
    missing="$missing libclang-dev"
[ -e /usr/include/linux/videodev2.h ] || missing="$missing linux-libc-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086  # a list of words on purpose
        apt-get install -y -qq --no-install-recommends $missing
    else
        echo "elek needs a C compiler (for SQLite) and libclang (for Video4Linux). Run:" >&2
        echo "  sudo apt-get install$missing" >&2
        exit 1
    fi
fi

[ "${1:-}" != no-rust ] || exit 0
if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "elek needs Rust 1.91 or newer: install rustup, open a new shell, and run this again." >&2
    exit 1
fi
