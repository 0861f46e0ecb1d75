#!/usr/bin/env bash
# Debian packages of elek:
#
#   cross/deb/build.sh amd64 arm64 armhf      target/deb/elek_VERSION_ARCH.deb, each
#
# Builds the binary for each kind of box first. What is packed: the binary (models built in), the
# services with their user, folders and device rights, a configuration, manual pages, completions, the
# notices of all that is compiled in. One that cannot be built does not keep the others from it.
set -euo pipefail
. "$(dirname "$0")/../arm/lib.sh"
cd "$project"
[ $# -gt 0 ] || die "say for which boxes: amd64, arm64, armhf"

boxes_of "$@"
# What anything of this needs, before the first build takes its time.
[ ${#boxes[@]} = 0 ] || "$here/toolchain.sh" "${boxes[@]}"
missing=()
command -v dh >/dev/null 2>&1 || missing+=(debhelper)
command -v dpkg-buildpackage >/dev/null 2>&1 || missing+=(dpkg-dev)
if [ ${#missing[@]} != 0 ]; then
    [ "$(id -u)" = 0 ] || die "more packages are needed. Run: sudo apt-get install --no-install-recommends ${missing[*]}"
    apt-get -q update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >&2
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=${CARGO_TARGET_DIR:-$project/target}/deb
mkdir -p "$out"

# built ARCH : sets `binary` and `run`, the words before it that make it run here
built() {
    local target=${CARGO_TARGET_DIR:-$project/target}
    if [ "$1" = amd64 ]; then
        # On a machine without a Rust of its own, that of the ARM boxes serves.
        command -v "${CARGO:-cargo}" >/dev/null 2>&1 || PATH=$PATH:$cache/bin
        ${CARGO:-cargo} build --profile dist --bin elek
        triple=x86_64-unknown-linux-gnu
        binary=$target/dist/elek run=()
        return
    fi
    boxes_of "$1"
    "$project/cross/arm/build.sh" "${boxes[0]}"
    name_of "${boxes[0]}"
    binary=$target/$triple/dist/elek run=("$qemu" -L "/usr/$gnu")
}

# stage FOLDER : everything as it will lie on the box
stage() {
    local root=$1 elek=("${run[@]}" "$binary")
    install -D -m 755 "$binary" "$root/usr/bin/elek"
    for unit in elek elek-outputs; do
        install -D -m 644 "systemd/$unit.service" "$root/lib/systemd/system/$unit.service"
    done
    install -d "$root/etc/elek"
    # The built-in line, with its record where the service may write, at a rate for small boxes.
    "${elek[@]}" config default |
        sed 's|"elek-data"|"/var/lib/elek"|; s|"elek-data/|"/var/lib/elek/|; s|^parts_per_s = 20.0|parts_per_s = 10.0|; s|twenty a second|ten a second|' \
            >"$root/etc/elek/station.toml"
    grep -q '^parts_per_s = 10.0' "$root/etc/elek/station.toml" || die "the built-in configuration has no parts_per_s = 20.0 any more"
    if grep -q 'elek-data' "$root/etc/elek/station.toml"; then die "the packed configuration still records into elek-data"; fi
    "${elek[@]}" check "$root/etc/elek/station.toml" >/dev/null
    "${elek[@]}" man --all "$root/usr/share/man/man1"
    install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
        "$root/usr/share/fish/vendor_completions.d"
    "${elek[@]}" completions bash >"$root/usr/share/bash-completion/completions/elek"
    "${elek[@]}" completions zsh >"$root/usr/share/zsh/vendor-completions/_elek"
    "${elek[@]}" completions fish >"$root/usr/share/fish/vendor_completions.d/elek.fish"
    install -D -m 644 -t "$root/usr/share/doc/elek" README.md LICENSE-MIT
    install -D -m 644 -t "$root/usr/share/doc/elek/fonts" src/display/fonts/LICENSE-OFL.txt
    "$project/cross/deb/notices.sh" "$triple" >"$root/usr/share/doc/elek/THIRD-PARTY"
    gzip -9n "$root/usr/share/doc/elek/THIRD-PARTY"
    install -D -m 644 -t "$root/usr/share/doc/elek/docs" CHANGELOG.md ARCHITECTURE.md docs/*.md docs/*.png
    install -D -m 644 -t "$root/usr/share/doc/elek/models" models/NOTICE models/README.md models/manifest.toml
}

# depends : the libraries that the binary names, as packages
depends() {
    local glibc library
    for library in $(objdump -p "$binary" | awk '$1 == "NEEDED" {print $2}'); do
        case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux*) ;;
        *) die "$binary needs $library, of which cross/deb/build.sh does not know the package" ;;
        esac
    done
    glibc=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    echo "libc6 (>= ${glibc#GLIBC_}), libgcc-s1"
}

# package ARCH : target/deb/elek_VERSION_ARCH.deb
package() {
    local tree=$work/$1/elek date
    built "$1"
    mkdir -p "$tree"
    cp -r cross/deb/debian "$tree/"
    stage "$tree/stage"
    cp systemd/elek.sysusers "$tree/debian/elek.sysusers"
    cp systemd/elek.tmpfiles "$tree/debian/elek.tmpfiles"
    cp systemd/72-elek.rules "$tree/debian/elek.udev"
    # Of the last commit, where there is one.
    date=$(git -c safe.directory='*' log -1 --format=%cD 2>/dev/null || date -R)
    printf 'elek (%s) unstable; urgency=medium\n\n  * See the changelog of the project.\n\n -- The elek authors <elek@localhost>  %s\n' \
        "$version" "$date" >"$tree/debian/changelog"
    depends >"$tree/depends"
    (cd "$tree" && dpkg-buildpackage -b -us -uc -d -a"$1" >"$work/$1/log" 2>&1) || {
        cat "$work/$1/log" >&2
        die "the package for $1 could not be built"
    }
    cp "$work/$1/elek_${version}_$1.deb" "$out/"
    echo "$out/elek_${version}_$1.deb: $(stat -c %s "$out/elek_${version}_$1.deb" | numfmt --to=iec-i --suffix=B)"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/elek-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=()
for arch in "$@"; do
    # By itself, so that what fails ends there; not in a condition, where the shell would go on after a failure.
    set +e
    (
        set -e
        package "$arch"
    )
    [ $? = 0 ] || failed+=("$arch")
    set -e
done
[ ${#failed[@]} = 0 ] || die "no package for: ${failed[*]}"
