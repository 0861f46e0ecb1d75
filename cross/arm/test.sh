#!/usr/bin/env bash
# The test suite on emulated ARM processors:
#
#   cross/arm/test.sh            each kind of core, the tests that depend on it
#   cross/arm/test.sh full       the whole suite on each kind of core
#   cross/arm/test.sh kernels    the integer kernels against the reference on each kind of core, without the rest:
#                                a few minutes, what CI has time for
#
# Emulated is the processor, not the kernel: system calls go to the machine's own, times mean nothing. What
# cannot hold there is left out below, each with its reason, and runs natively in `make test` and in the
# virtual machine.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"
mode=${1:-short}
case $mode in short | full | kernels) ;; *) die "say nothing, full or kernels" ;; esac

# A core for each generation of boards: without and with dot products, and all that the emulator knows.
cores=(cortex-a53 cortex-a72 cortex-a76 max)

# As the Makefile compiles tests.
options=(--release --config tests/checked.toml)

# Left out, one name a line, with the reason behind it.
skip=()
while read -r name _; do skip+=(--skip "$name"); done < <(grep -v '^#' "$here/left-out.txt")

"$here/toolchain.sh" arm64 armv7
# Before anything is built: Debian 12's own kernel cannot do it.
[ "$mode" = kernels ] || "$here/emulate.sh" arm64 max true
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-arm.XXXXXX")
trap 'rm -rf "$work"' EXIT

# on BOX CORE CARGO-ARGUMENTS... : cargo test, in a world where programs for the box run
on() {
    local kind=$1 core=$2 started=$SECONDS
    shift 2
    (
        env_of "$kind"
        upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
        # Test programs run by themselves there, and so do their children.
        unset "CARGO_TARGET_${upper}_RUNNER"
        nice "${CARGO:-cargo}" test --no-run "${options[@]}" --target "$triple" "$@" 2>&1 | grep -v Executable >&2 || exit 1
        say "$kind as $core: $*"
        "$here/emulate.sh" "$kind" "$core" "${CARGO:-cargo}" test --quiet --no-fail-fast "${options[@]}" --target "$triple" "$@" -- "${skip[@]}"
    )
    say "$kind as $core: passed, $((SECONDS - started)) s"
}

# Which kernels a core has to run: without this, one that is not found would not be tested, and nobody would know.
expect() {
    case $1 in
    cortex-a53 | cortex-a72) ELEK_EXPECTED_KERNELS="portable NEON" ;;
    cortex-a76 | max) ELEK_EXPECTED_KERNELS="portable NEON NEON-dotprod" ;;
    armv7) ELEK_EXPECTED_KERNELS="portable" ;;
    *) die "which kernels has a $1?" ;;
    esac
    export ELEK_EXPECTED_KERNELS
}

# side_by_side FUNCTION WORD... : the function with each word, as many at a time as there are processors; what each says
# is shown when it ends
side_by_side() {
    local function=$1 word pid failed=0
    local -A words=()
    shift
    ended() {
        local code=0
        wait -n -p pid || code=$?
        cat "$work/${words[$pid]}.log"
        [ "$code" = 0 ] || { say "${words[$pid]}: FAILED ($code)" && failed=1; }
        unset "words[$pid]"
    }
    for word in "$@"; do
        [ ${#words[@]} -lt "$(nproc)" ] || ended
        "$function" "$word" >"$work/$word.log" 2>&1 &
        words[$!]=$word
    done
    while [ ${#words[@]} -gt 0 ]; do ended; done
    return $failed
}

# kernels_on CORE : the program with the kernels alone, on this core
kernels_on() {
    local started=$SECONDS
    expect "$1"
    say "$box as $1: $ELEK_EXPECTED_KERNELS"
    "$qemu" -cpu "${1/armv7/max}" -L "/usr/$gnu" "$work/kernels" --quiet
    say "$box as $1: passed, $((SECONDS - started)) s"
}

# alone BOX CORE... : the kernels by themselves, compiled once, on each of these cores
alone() {
    (
        env_of "$1"
        shift
        rustc --edition 2024 --test -C opt-level=3 -C debug-assertions=on -C overflow-checks=on \
            --target "$triple" -C "linker=$gnu-gcc" -o "$work/kernels" "$here/kernels.rs"
        side_by_side kernels_on "$@"
    )
}
if [ "$mode" = kernels ]; then
    alone arm64 "${cores[@]}"
    alone armv7 armv7
    exit 0
fi

# What this machine's own processor makes of the same pictures, shifts and models, for comparison.
export ELEK_SAME=$work/same
mkdir "$ELEK_SAME"
nice "${CARGO:-cargo}" test --quiet "${options[@]}" --test same_everywhere

if [ "$mode" = full ]; then
    for core in "${cores[@]}"; do
        expect "$core"
        on arm64 "$core"
    done
    expect armv7
    on armv7 max
    exit 0
fi
# The kernels, the integer paths and the models on each kind of core, the rest of the library's tests on the smallest.
expect cortex-a53
on arm64 cortex-a53 --lib --test same_everywhere --test inspector --test model_files --test no_alloc
for core in "${cores[@]:1}"; do
    expect "$core"
    on arm64 "$core" --lib kernels::
    on arm64 "$core" --test same_everywhere --test inspector
done
expect armv7
on armv7 max --lib kernels::
