#!/usr/bin/env bash
# The program for an ARM box:
#
#   cross/arm/build.sh arm64      target/aarch64-unknown-linux-gnu/dist/elek
#   cross/arm/build.sh armv7      target/armv7-unknown-linux-gnueabihf/dist/elek
#   cross/arm/build.sh arm64 emulated    the same with another profile of Cargo.toml
#
# Prints its size and the newest glibc symbol it needs: Debian 12 has 2.36, and elek asks for 2.35 at most.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$project"
[ $# = 1 ] || [ $# = 2 ] || die "say for which box: arm64 or armv7"
profile=${2:-dist}

"$here/toolchain.sh" "$1"
env_of "$1"
${CARGO:-cargo} build --profile "$profile" --bin elek --target "$triple"

binary=${CARGO_TARGET_DIR:-target}/$triple/$profile/elek
needs=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
iec() { numfmt --to=iec-i --suffix=B "$1"; }
stripped=$(mktemp)
"$gnu-strip" -o "$stripped" "$binary"
size=$(stat -c %s "$stripped")
rm "$stripped"
models=$(cat models/*.onnx | wc -c)
echo "$binary: needs $needs"
echo "$(iec "$(stat -c %s "$binary")"), $(iec "$size") stripped, of which the shipped models $(iec "$models")"
echo "sha256 $(sha256sum "$binary" | cut -d' ' -f1)"
newest=$(printf '%s\nGLIBC_2.35\n' "$needs" | sort -V | tail -1)
[ "$newest" = GLIBC_2.35 ] || die "$needs is newer than 2.35: boxes with Debian 12 or Ubuntu 22.04 could not run it"
