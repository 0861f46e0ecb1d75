#!/usr/bin/env bash
# Tests on emulated ARM processors:
#
#   cross/arm/test.sh            the integer kernels, and with the whole library the tests that depend on the processor,
#                                on each kind of core
#   cross/arm/test.sh full       the whole suite, with elek's own assertions, on each kind of core
#   cross/arm/test.sh kernels    the integer kernels against the reference on each kind of core, without the rest
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

# The way from picture to verdict, the engine in integers, the record, what may allocate. Not the outputs: they go by the clock.
telling=(same_everywhere int8_ops int8_random inspector no_alloc record_disk config_cli)

"$here/toolchain.sh" arm64 armv7
# Before anything is built: Debian 12's own kernel cannot do it.
[ "$mode" = kernels ] || "$here/emulate.sh" arm64 max true
work=$(mktemp -d "${TMPDIR:-/tmp}/elek-arm.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Left out, one name a line, with the reason behind it.
skip=()
while read -r name _; do skip+=(--skip "$name"); done < <(grep -v '^#' "$here/left-out.txt")

# compile BOX CARGO-ARGUMENTS... : test programs for the box, named in $work/BOX.programs
compile() (
    env_of "$1"
    shift
    nice "${CARGO:-cargo}" test --no-run --target "$triple" "$@" 2>&1 | tee "$work/cargo.log" | grep --line-buffered -v Executable >&2 || exit 1
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$work/cargo.log" >"$work/$box.programs"
    [ -s "$work/$box.programs" ] || die "cargo has compiled no tests for $box"
)

# suite_on CORE : the compiled tests on this core, in a world where also the programs run that they start
suite_on() {
    local started=$SECONDS kind=arm64
    [ "$1" != armv7 ] || kind=armv7
    expect "$1"
    "$here/emulate.sh" "$kind" "${1/armv7/max}" bash -c '
        failed=0
        while read -r program; do
            echo "$program"
            "$program" --quiet "$@" </dev/null || failed=1
        done
        exit $failed' suite "${skip[@]}" <"$work/$kind.programs"
    say "$kind as $1: $(wc -l <"$work/$kind.programs") programs passed, $((SECONDS - started)) s"
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
checked=(--config tests/checked.toml)
nice "${CARGO:-cargo}" test --quiet --release "${checked[@]}" --test same_everywhere

# The profile of `make test-vm-arm-short` too, so that the graph is compiled once for all.
if [ "$mode" = full ]; then
    compile arm64 --profile emulated "${checked[@]}"
    side_by_side suite_on "${cores[@]}"
    # Of 32 bits the library: the rest is the same code.
    compile armv7 --profile emulated "${checked[@]}" --lib --test int8_ops --test int8_random --test inspector
    suite_on armv7
    exit 0
fi
alone arm64 "${cores[@]}"
alone armv7 armv7
compile arm64 --profile emulated "${telling[@]/#/--test=}"
side_by_side suite_on "${cores[@]}"
