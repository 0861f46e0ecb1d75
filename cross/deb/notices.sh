#!/usr/bin/env bash
# Whose work is in the binary for a target, and under which licence:
#
#   cross/deb/notices.sh aarch64-unknown-linux-gnu      on standard output
#
# Every crate that is compiled in, with the licence it names, then the texts of its files of that kind, each text
# once. MIT, BSD and their like ask for that with every copy. Read from cargo's own folder: build first.
set -euo pipefail
cd "$(dirname "$0")/../.."
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
texts=$(mktemp -d "${TMPDIR:-/tmp}/elek-notices.XXXXXX")
trap 'rm -rf "$texts"' EXIT

echo "elek holds these crates, in the form that its Cargo.lock names. What they say of their licences follows the list."
echo
${CARGO:-cargo} tree --locked --edges normal,no-proc-macro --target "$1" --prefix none --no-dedupe --format '{p}|{l}|{r}' |
    sed 's/ (\*)//; /^elek v/d; s/ (proc-macro)//' | sort -u >"$texts/crates"
while IFS='|' read -r crate licence repository; do
    name=${crate% v*} version=${crate##* v}
    printf '%s %s: %s %s\n' "$name" "$version" "${licence:-see its files}" "${repository:+($repository)}"
    for file in "$sources"/*/"$name-$version"/{LICENSE,LICENCE,COPYING,COPYRIGHT,NOTICE,UNLICENSE,license}*; do
        [ -f "$file" ] || continue
        sum=$(sha256sum <"$file" | cut -c1-64)
        cp "$file" "$texts/$sum.text"
        echo "$name $version: ${file##*/}" >>"$texts/$sum.of"
    done
done <"$texts/crates"
[ -n "$(ls "$texts"/*.text 2>/dev/null)" ] || {
    echo "notices: no licence texts in $sources" >&2
    exit 1
}
for text in "$texts"/*.text; do
    printf '\n%s\n' "----------------------------------------------------------------"
    sort -u "${text%.text}.of"
    echo
    tr -d '\r' <"$text"
done
