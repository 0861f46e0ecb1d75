#!/usr/bin/env bash
# Runs tests/vm_*.rs inside a virtual machine with simulated cameras, lines, displays, watchdogs:
#
#   cross/vm/test.sh                          all of them, each file in a guest of its own
#   cross/vm/test.sh vm_camera vm_lines       these
#   cross/vm/test.sh vm_camera -- unplug      of these, the tests whose names contain `unplug`
#   cross/vm/test.sh vm_camera -- unplug --nocapture
#
# Such a test is marked #[ignore = "needs the virtual machine: make test-vm"]. Inside, it is root,
# has busybox (modprobe, mount, …), /sys/kernel/config and debugfs, and finds by their usual paths
# (CARGO_BIN_EXE_elek, CARGO_MANIFEST_DIR) the binary, tests/fixtures, tests/data and systemd/.
# Tests of a file run one after the other; files side by side, as many as there are processors. Files
# named vm_service*.rs run under a Debian with systemd. Assert what happens and in which order: a guest
# is a slow machine, and its clock is its own (see run.sh).
#
# The binary is the one that is shipped: `cargo build --release` is run first and its sha256 printed.
# ELEK_BIN=FILE takes another one instead, such as target/debug/elek while developing.
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
    for file in tests/vm_*.rs; do
        test=$(basename "$file" .rs)
        [ "$test" = vm_service ] || tests+=("$test")
    done
fi
for test in "${tests[@]}"; do
    [ -f "tests/$test.rs" ] || die "there is no tests/$test.rs"
done

"$here/install.sh"
"$here/guest.sh"
for test in "${tests[@]}"; do
    case $test in vm_service*) "$here/disk.sh" && break ;; esac
done

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$project/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-vm.XXXXXX")
trap 'rm -rf "$work"' EXIT
options=()
if [ -z "${ELEK_BIN:-}" ]; then
    $cargo build --release --bin elek
    # Aside, because the tests' own build lays another one, with assertions, in its place.
    ELEK_BIN=$work/elek
    cp "$target/release/elek" "$ELEK_BIN"
    # As the Makefile compiles tests: most likely they are there already.
    options=(--release --config tests/checked.toml)
fi
say "elek: $(sha256sum "$ELEK_BIN")"

# build NAME : the test's binary
build() {
    $cargo test "${options[@]}" --no-run --test "$1" 2>&1 | tee "$work/build.log" >&2
    local built
    built=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$work/build.log")
    [ -x "$built" ] || die "cargo built no binary of tests/$1.rs"
    echo "$built"
}

# pack BINARY FOLDER : what is laid over the guest's root
pack() {
    local inside=$2/test
    rm -rf "$2" && mkdir -p "$inside/tests"
    cp "$1" "$inside/test-binary"
    # Its names are of use in a backtrace, its debug information fills the guest's memory.
    strip --strip-debug "$inside/test-binary"
    cp "$ELEK_BIN" "$inside/elek"
    cp -r tests/fixtures tests/data "$inside/tests/"
    [ -d systemd ] && cp -r systemd "$inside/"
    # The shared libraries, under the same paths.
    ldd "$1" "$ELEK_BIN" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' | sort -u |
        while read -r library; do install -D "$library" "$2$library"; done
    {
        echo "export RUST_BACKTRACE=1 ELEK_VM=1"
        # The paths that the compiler wrote into the test lead to the same things here.
        echo "mkdir -p '$(dirname "$project")' && ln -sfn /test '$project'"
        for profile in debug release; do
            echo "mkdir -p '$target/$profile' && ln -sf /test/elek '$target/$profile/elek'"
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
    case $1 in vm_service*) disk=1 ;; esac
    pack "$(cat "$work/$1.binary")" "$work/$1"
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

for test in "${tests[@]}"; do build "$test" >"$work/$test.binary"; done
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
