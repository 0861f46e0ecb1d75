#!/bin/sh
# Checks for the few things a build needs and installs what is missing where it may.
set -eu

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086  # a list of words on purpose
        apt-get install -y -qq --no-install-recommends $missing
    else
        echo "elek needs a C compiler for SQLite. Run:" >&2
        echo "  sudo apt-get install$missing" >&2
        exit 1
    fi
fi

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "elek needs Rust 1.91 or newer: install rustup, open a new shell, and run this again." >&2
    exit 1
fi
