#!/usr/bin/env bash
# What it takes to build for ARM on a Debian machine:
#
#   cross/arm/toolchain.sh arm64 armv7
#
# The C compilers come from the machine's own packages. Rust's library for the target is the machine's
# own where `rustup target add` has put it; elsewhere a Rust of Debian's packages is unpacked beside
# the machine's own, in $ELEK_CROSS_CACHE (default target/cross), without changing /etc/apt.
# Quick when there is nothing to do.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || die "say for which boxes: arm64, armv7"

missing=()
need() { # COMMAND PACKAGE...
    local command=$1
    shift
    command -v "$command" >/dev/null 2>&1 || missing+=("$@")
}
lacking=()
for box in "$@"; do
    name_of "$box"
    need "$gnu-gcc" "gcc-$gnu" "libc6-dev-$arch-cross"
    need "$qemu" qemu-user-static
    has_target || lacking+=("$box")
done
if [ ${#missing[@]} != 0 ]; then
    [ "$(id -u)" = 0 ] || die "more packages are needed. Run: sudo apt-get install --no-install-recommends ${missing[*]}"
    say "installing: ${missing[*]}"
    apt-get -q update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2
fi
[ ${#lacking[@]} = 0 ] && exit 0

# Made again when the way of making it changes.
made_of=$(sha256sum <"$0" | cut -c1-16)
[ "$(cat "$cache/made-of" 2>/dev/null)" = "$made_of" ] && exit 0
say "no Rust library for ${lacking[*]} here: unpacking Debian's Rust (once)"
rm -rf "${cache:?}"/{debs,root,bin}
mkdir -p "$cache"/{debs,root,bin} "$cache"/apt/{lists/partial,archives/partial,parts,sources}

# The machine's own sources, for two architectures. The library for armhf is of the same version in
# the next release.
sources=/etc/apt/sources.list.d/debian.sources
[ -e $sources ] || die "no $sources: the compilers come from Debian's packages"
sed -e '/^Architectures:/d' -e 's/^Types:.*/Types: deb\nArchitectures: amd64 arm64/' $sources >"$cache/apt/sources/own.sources"
mirror=$(awk '/^URIs:/ {print $2; exit}' $sources)
cat >"$cache/apt/sources/next.sources" <<END
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Architectures: armhf
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
: >"$cache/apt/status"
cat >"$cache/apt/apt.conf" <<END
Dir::Etc { sourcelist "/dev/null"; sourceparts "$cache/apt/sources"; preferences "/dev/null"; preferencesparts "$cache/apt/parts"; };
Dir::State { Lists "$cache/apt/lists"; status "$cache/apt/status"; };
Dir::Cache { Archives "$cache/apt/archives"; pkgcache ""; srcpkgcache ""; };
APT::Architectures { "amd64"; "arm64"; "armhf"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG=$cache/apt/apt.conf
# Debian's indices for armhf are sometimes missing in one suite; what counts is what follows.
apt-get -q update >/dev/null || say "some package lists could not be read"

# One version for compiler and libraries: their metadata has to match.
version=$(apt-cache policy rustc-web | awk '/Candidate:/ {print $2}')
[ "${version:-(none)}" != "(none)" ] || die "the machine's sources offer no rustc-web"
library=$(apt-cache show "libstd-rust-web-dev=$version" | sed -n 's/^Depends: \(libstd-rust-web-[0-9.]*\) .*/\1/p' | head -1)
llvm=$(apt-cache show "$library=$version" | grep -oE 'libllvm[0-9]+' | head -1)
upstream=${version%%+*}
armhf=$(apt-cache madison libstd-rust-web-dev:armhf | awk -v u="$upstream" 'index($3, u) == 1 {print $3; exit}')
[ -n "$armhf" ] || armhf=$(apt-cache madison libstd-rust-dev:armhf | awk -v u="$upstream" 'index($3, u) == 1 {print $3; exit}')
packages=("rustc-web=$version" "cargo-web=$version" "$library=$version" "libstd-rust-web-dev=$version" "$llvm"
    libgit2-1.5 libhttp-parser2.9 libmbedtls14 libmbedcrypto7 libmbedx509-1)
for box in "${lacking[@]}"; do
    case $box in
    arm64) packages+=("libstd-rust-web-dev:arm64=$version") ;;
    armv7) [ -n "$armhf" ] || die "no Rust library of version $upstream for armhf"
        packages+=("libstd-rust-web-dev:armhf=$armhf") ;;
    esac
done
(cd "$cache/debs" && apt-get -q download "${packages[@]}" >/dev/null)
unset APT_CONFIG
for deb in "$cache/debs/"*.deb; do dpkg-deb -x "$deb" "$cache/root"; done
rm -rf "$cache/debs"

libraries=$cache/root/usr/lib/x86_64-linux-gnu
for tool in cargo rustc rustdoc; do
    cat >"$cache/bin/$tool" <<END
#!/bin/sh
LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "$cache/root/usr/bin/$tool" "\$@"
END
    chmod +x "$cache/bin/$tool"
done
"$cache/bin/rustc" --version >&2
echo "$made_of" >"$cache/made-of"
