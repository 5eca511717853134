#!/usr/bin/env bash
# For machines that cannot pull images: makes a stand-in for the image that the Dockerfile builds in, under the same name,
# from Debian's packages and this machine's Rust. Whoever can pull does not need it.
#
# Needs root, docker, debootstrap, and Rust of the version in the image's name. Does nothing if the image is there.
# Whom this machine trusts, the stand-in trusts too, so that cargo reaches the registry in there as it does out here.
set -euo pipefail
cd "$(dirname "$0")/.."

image=$(awk '$1 == "FROM" && $2 ~ /^rust:/ { print $2 }' Dockerfile)
if docker image inspect "$image" >/dev/null 2>&1; then exit; fi

# rust:VERSION-slim-RELEASE
version=${image#rust:} version=${version%%-*} release=${image##*-}
case $(rustc --version) in
    "rustc $version."*) ;;
    *) echo "$image needs Rust $version, and here is $(rustc --version)" >&2; exit 1 ;;
esac

root=$(mktemp --directory)
trap 'rm --recursive --force --one-file-system "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev "$release" "$root" >"$root.log" 2>&1 ||
    { tail --lines 20 "$root.log" >&2; exit 1; }
rm --force "$root.log"
cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mkdir --parents "$root/usr/local/rust"
tar --directory "$(rustc --print sysroot)" --exclude=share/doc --create bin lib |
    tar --directory "$root/usr/local/rust" --extract --no-same-owner
tar --directory "$root" --exclude=./proc/* --exclude=./sys/* --exclude=./var/cache/apt --create . |
    docker import --change "ENV PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        --change "ENV CARGO_HOME=/usr/local/cargo" - "$image"
