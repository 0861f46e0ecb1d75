#!/usr/bin/env bash
# Runs tests/vm_*.rs inside a virtual machine with simulated cameras, lines, displays, watchdogs:
#
#   cross/vm/test.sh                          all but those of the package, each file in a guest of its own
#   cross/vm/test.sh vm_camera vm_lines       these
#   cross/vm/test.sh vm_camera -- unplug      of these, the tests whose names contain `unplug`
#   cross/vm/test.sh vm_camera -- unplug --nocapture
#   ELEK_VM_ARCH=arm64 cross/vm/test.sh       all, on an arm64 board
#   ELEK_VM_ARCH=arm64 ELEK_VM_PROFILE=emulated cross/vm/test.sh vm_station
#                                             elek compiled by this profile of Cargo.toml in place of the packed one
#
# Such a test is marked #[ignore = "needs the virtual machine: make test-vm"]. Inside, it is root,
# has busybox (modprobe, mount, …), /sys/kernel/config and debugfs, and finds by their usual paths
# (CARGO_BIN_EXE_elek, CARGO_MANIFEST_DIR) the binary, tests/fixtures, tests/data and systemd/.
# Tests of a file run one after the other; files side by side, as many as there are processors. Files
# named vm_service*.rs and vm_package*.rs run under a Debian with systemd, the latter with the Debian package
# beside them, whose program then is the one under test. Assert what happens and in which order: a guest
# is a slow machine, and its clock is its own (see run.sh).
#
# The binary is `cargo build --release`, for a board the one that is packed; it is built first and its sha256 printed.
# ELEK_BIN=FILE takes another one instead, such as target/debug/elek while developing. For a package,
# cross/deb/build.sh is run first; ELEK_DEB=FILE takes that one instead.
# More: run.sh, docs/VM.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"

tests=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    tests+=("$1")
    shift
done
[ "${1:-}" = -- ] && shift
filters=("$@")
if [ ${#tests[@]} = 0 ]; then
    # Systemd takes longest; begun last, it would run alone.
    tests=(vm_service)
    [ "$arch" = amd64 ] || tests=(vm_package vm_service)
    for file in tests/vm_*.rs; do
        test=$(basename "$file" .rs)
        case $test in vm_service | vm_package*) ;; *) tests+=("$test") ;; esac
    done
fi
packed=
for test in "${tests[@]}"; do
    [ -f "tests/$test.rs" ] || die "there is no tests/$test.rs"
    case $test in vm_package*) packed=yes ;; esac
done

with_disk() { case $1 in vm_service* | vm_package*) ;; *) return 1 ;; esac; }

"$here/install.sh"
"$here/guest.sh"
for test in "${tests[@]}"; do
    if with_disk "$test"; then
        "$here/disk.sh"
        break
    fi
done

target=${CARGO_TARGET_DIR:-$project/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-vm.XXXXXX")
trap 'rm -rf "$work"' EXIT
cargo=${CARGO:-cargo} built=$target strip=strip options=()
# As the Makefile compiles tests: most likely they are there already.
[ -n "${ELEK_BIN:-}" ] || options=(--release --config tests/checked.toml)
if [ "$arch" != amd64 ]; then
    "$project/cross/arm/toolchain.sh" "$arch"
    built=$target/$triple strip=$gnu-strip
    options=(--profile emulated --target "$triple")
fi
# for_guest COMMAND... : in the environment that builds for the guest's kind of box
for_guest() {
    if [ "$arch" = amd64 ]; then "$@"; else (. "$project/cross/arm/lib.sh" && env_of "$arch" && "$@"); fi
}

if [ -n "$packed" ]; then
    deb=${ELEK_DEB:-}
    if [ -z "$deb" ]; then
        "$project/cross/deb/build.sh" "$arch"
        deb=$target/deb/elek_$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)_$arch.deb
    fi
    [ -f "$deb" ] || die "there is no package $deb"
    say "package: $(sha256sum "$deb")"
fi
if [ -z "${ELEK_BIN:-}" ]; then
    # Aside, because the tests' own build lays another one, with assertions, in its place.
    ELEK_BIN=$work/elek
    if [ -n "$packed" ]; then
        dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/bin/elek >"$ELEK_BIN"
        chmod 755 "$ELEK_BIN"
    else
        profile=${ELEK_VM_PROFILE:-dist}
        if [ "$arch" = amd64 ]; then
            profile=release
            $cargo build --release --bin elek
        else
            "$project/cross/arm/build.sh" "$arch" "$profile"
        fi
        cp "$built/$profile/elek" "$ELEK_BIN"
    fi
fi
say "elek: $(sha256sum "$ELEK_BIN")"

# compile NAME : the test's binary
compile() {
    for_guest $cargo test "${options[@]}" --no-run --test "$1" 2>&1 | tee "$work/build.log" >&2
    local binary
    binary=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$work/build.log")
    [ -x "$binary" ] || die "cargo built no binary of tests/$1.rs"
    echo "$binary"
}

# libraries BINARY... : the shared ones, each with its path in the guest
libraries() {
    if [ "$arch" = amd64 ]; then
        ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3, $3} $1 ~ /^\/.*ld-linux/ {print $1, $1}'
    else
        readelf -d "$@" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | awk -v from="/usr/$gnu/lib/" '{print from $1, "/lib/" $1}'
        readelf -l "$@" | sed -n "s#.*interpreter: \(.*/\(.*\)\)\]#/usr/$gnu/lib/\2 \1#p"
    fi | sort -u
}

# pack BINARY FOLDER : what is laid over the guest's root
pack() {
    local inside=$2/test
    rm -rf "$2" && mkdir -p "$inside/tests"
    cp "$1" "$inside/test-binary"
    # Its names are of use in a backtrace, its debug information fills the guest's memory.
    "$strip" --strip-debug "$inside/test-binary"
    cp "$ELEK_BIN" "$inside/elek"
    cp -r tests/fixtures tests/data "$inside/tests/"
    [ -d systemd ] && cp -r systemd "$inside/"
    libraries "$1" "$ELEK_BIN" | while read -r library place; do install -D "$library" "$2$place"; done
    {
        echo "export RUST_BACKTRACE=1 ELEK_VM=1"
        # The paths that the compiler wrote into the test lead to the same things here.
        echo "mkdir -p '$(dirname "$project")' && ln -sfn /test '$project'"
        for folder in debug release emulated; do
            echo "mkdir -p '$built/$folder' && ln -sf /test/elek '$built/$folder/elek'"
        done
        printf 'exec /test/test-binary --ignored --test-threads=1'
        [ ${#filters[@]} = 0 ] || printf " '%s'" "${filters[@]}"
        echo
    } >"$inside/run.sh"
}

# timed : each test's result with the seconds that it took here, where CI waits for it
timed() {
    local began=$SECONDS line
    while IFS= read -r line; do
        case $line in
        "running "*" test"*) began=$SECONDS ;;
        # With --nocapture the result stands alone, below what the test has said.
        "test "*" ... ok" | "test "*" ... FAILED" | ok | FAILED)
            line+=" ($((SECONDS - began)) s)" began=$SECONDS
            ;;
        esac
        printf '%s\n' "$line"
    done
}

# guest NAME : packs a test, boots it, and leaves what it said, its seconds and its exit code
guest() {
    local started=$SECONDS code=0 disk=
    if with_disk "$1"; then disk=1; fi
    pack "$(cat "$work/$1.binary")" "$work/$1"
    case $1 in vm_package*) cp "$deb" "$work/$1/test/" ;; esac
    attempt() { ELEK_VM_DISK=$disk "$here/run.sh" "$work/$1" 2>&1 | timed; }
    # Of a single one it is seen as it comes.
    if [ ${#tests[@]} = 1 ]; then
        attempt "$1" || code=$?
    else
        attempt "$1" >"$work/$1.log" || code=$?
    fi
    rm -rf "${work:?}/$1"
    echo "$code $((SECONDS - started))" >"$work/$1.result"
}

for test in "${tests[@]}"; do compile "$test" >"$work/$test.binary"; done
# A guest keeps one processor busy.
jobs=$(nproc)
for test in "${tests[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    say "$test, in a guest"
    guest "$test" &
done
wait

summary=() failed=0
for test in "${tests[@]}"; do
    [ ${#tests[@]} = 1 ] || { echo "--- $test" && cat "$work/$test.log"; }
    read -r code seconds <"$work/$test.result"
    if [ "$code" = 0 ]; then words=passed; else words="FAILED ($code)" failed=1; fi
    summary+=("$test: $words, $seconds s")
done
printf 'vm: %s\n' "${summary[@]}" >&2
exit $failed
