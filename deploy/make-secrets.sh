#!/usr/bin/env bash
# Makes what the compose profile "tls" needs: in deploy/secrets a CA, a certificate for localhost, and tokens for the names
# that are given; deploy/state for checkpoints. Needs openssl, and the program `gradtape`, its image, or cargo. What exists
# is kept.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets state

if [ ! -e secrets/cert.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 \
        -subj "/CN=gradtape on this machine" -addext "basicConstraints=critical,CA:TRUE" \
        -keyout secrets/ca.key -out secrets/ca.pem 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
        -keyout secrets/key.pem -out secrets/cert.csr 2>/dev/null
    openssl x509 -req -in secrets/cert.csr -CA secrets/ca.pem -CAkey secrets/ca.key -CAcreateserial -days 825 \
        -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:gradtape-tls\nbasicConstraints=CA:FALSE\n') \
        -out secrets/cert.pem 2>/dev/null
    # Nobody can sign more with it.
    rm secrets/ca.key secrets/cert.csr
fi

if command -v gradtape >/dev/null; then
    gradtape=(gradtape)
elif docker image inspect gradtape >/dev/null 2>&1; then
    gradtape=(docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD/secrets:/secrets" --workdir / gradtape)
else
    gradtape=(cargo run --quiet --package gradtape-server --bin gradtape --)
fi
for name in "$@"; do
    "${gradtape[@]}" token --file secrets/tokens.json create "$name"
done
