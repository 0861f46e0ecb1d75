#!/usr/bin/env bash
# What it takes to build for ARM on a Debian machine:
#
#   cross/arm/toolchain.sh arm64 armv7
#
# The C compilers come from the machine's own packages. Rust's library for the target is the machine's
# own where `rustup target add` has put it; elsewhere a Rust of Debian's packages is unpacked beside
# the machine's own, in $ELEK_CROSS_CACHE (default target/cross), without changing /etc/apt. Run without rights
# beyond those of a user where the C compilers are there.
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

# Made again when the way of making it changes, and when it was made without a box that is asked for now.
made_of=$(sha256sum <"$0" | cut -c1-16)
complete() {
    local box
    [ "$(cat "$cache/made-of" 2>/dev/null)" = "$made_of" ] || return 1
    for box in "${lacking[@]}"; do
        name_of "$box"
        [ -d "$cache/root/usr/lib/rustlib/$triple/lib" ] || return 1
    done
}
if complete; then exit 0; fi
say "no Rust library for ${lacking[*]} here: unpacking Debian's Rust (once)"
rm -rf "${cache:?}"/{debs,root,bin}
mkdir -p "$cache"/{debs,root,bin} "$cache"/apt/{lists/partial,archives/partial,parts,sources}

# The machine's own sources, for two architectures. The library for armhf is of the same version in the next release.
here_is=$(. /etc/os-release && echo "$VERSION_CODENAME")
next_is=trixie
[ "$here_is" = bookworm ] || die "this is Debian $here_is: the packages' names are those of bookworm"
own=$cache/apt/sources
if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    sources() { sed -e '/^Architectures:/d' -e "s/^Types:.*/Types: deb\nArchitectures: $1/" -e "/^Suites:/s/$here_is/$2/g" /etc/apt/sources.list.d/debian.sources; }
    sources "amd64 arm64" "$here_is" >"$own/own.sources"
    sources armhf $next_is >"$own/next.sources"
elif grep -q '^deb .*http' /etc/apt/sources.list 2>/dev/null; then
    sources() { sed -n -e "s/^deb \(\[[^]]*\] \)\?\(http[^ ]* \)$here_is/deb [arch=$1] \2$2/p" /etc/apt/sources.list; }
    sources amd64,arm64 "$here_is" >"$own/own.list"
    sources armhf $next_is >"$own/next.list"
else
    die "no Debian mirror found in /etc/apt: the compilers come from Debian's packages"
fi
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

# One version for compiler and libraries, since their metadata has to match: the newest that every box has.
wanted() { case " ${lacking[*]} " in *" $1 "*) ;; *) return 1 ;; esac; }
armhf_of() { # UPSTREAM : package=version of its library for armhf
    local package
    for package in libstd-rust-web-dev libstd-rust-dev; do
        apt-cache madison "$package:armhf" | awk -v p="$package:armhf=" -v u="$1" 'index($3, u) == 1 {print p $3; exit}'
    done | head -1
}
version="" armhf=""
for candidate in $(apt-cache madison rustc-web | awk '{print $3}'); do
    armhf=$(armhf_of "${candidate%%+*}")
    if [ -n "$armhf" ] || ! wanted armv7; then version=$candidate && break; fi
done
[ -n "$version" ] || die "the machine's sources offer no rustc-web (for armv7: none whose version $next_is has for armhf)"
library=$(apt-cache show "libstd-rust-web-dev=$version" | sed -n 's/^Depends: \(libstd-rust-web-[0-9.]*\) .*/\1/p' | head -1)
llvm=$(apt-cache show "$library=$version" | grep -oE 'libllvm[0-9]+' | head -1)
packages=("rustc-web=$version" "cargo-web=$version" "$library=$version" "libstd-rust-web-dev=$version" "$llvm"
    libgit2-1.5 libhttp-parser2.9 libmbedtls14 libmbedcrypto7 libmbedx509-1 "libstd-rust-web-dev:arm64=$version")
# Not only for those asked for: the next one would have all unpacked again.
if [ -n "$armhf" ]; then packages+=("$armhf"); fi
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
