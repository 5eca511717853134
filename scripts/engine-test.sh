#!/usr/bin/env bash
# Tests the image and the compose file on a real engine: builds the image, looks into it, trains through published ports,
# kills the container and goes on from a checkpoint and in the middle of a session with the same bits, and speaks TLS.
#
# Needs docker that runs, docker compose (the plugin or the program), curl, openssl, Python and Rust. `cargo xtask test`
# leaves it out, since not every machine has an engine. Where images cannot be pulled, scripts/base-images.sh makes what
# the build needs. BUILD_NETWORK=host lets the build use the machine's network.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LARGEST_IMAGE=25000000
export COMPOSE_PROJECT_NAME=gradtape-test GRADTAPE_PORT=0 GRADTAPE_TLS_PORT=0 GRADTAPE_METRICS_PORT=0
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose+=(--profile tls --profile metrics)
scratch=$(mktemp --directory)

finish() {
    local code=$?
    if [ "$code" != 0 ]; then "${compose[@]}" logs --tail 5 || true; fi
    docker rm --force --volumes gradtape-test-keys >/dev/null 2>&1 || true
    if [ -n "${provider:-}" ]; then kill "$provider" 2>/dev/null || true; fi
    "${compose[@]}" down --volumes --timeout 45 >/dev/null 2>&1 || true
    rm --recursive --force "$scratch"
    exit "$code"
}
trap finish EXIT

fail() { echo "$*" >&2; exit 1; }

# SERVICE: starts it and waits until it is healthy. Sets `container` and `address`.
start() {
    "${compose[@]}" up --detach --no-build "$1" >/dev/null 2>&1 || fail "$1 does not start"
    container=$("${compose[@]}" ps --quiet "$1")
    local health
    for _ in $(seq 60); do
        health=$(docker inspect --format '{{.State.Health.Status}}' "$container")
        if [ "$health" = healthy ]; then break; fi
        sleep 1
    done
    [ "$health" = healthy ] || fail "$1 is $health"
    address=127.0.0.1:$("${compose[@]}" port "$1" 50051 | sed 's/.*://')
}

# EXPECTED ACTUAL WHAT
same() { [ "$1" = "$2" ] || fail "$3: expected $1, got $2"; }

image() {
    local base
    base=$(awk '$1 == "FROM" { print $2; exit }' Dockerfile)
    docker image inspect "$base" >/dev/null 2>&1 || docker pull --quiet "$base" || scripts/base-images.sh
    docker build --network "${BUILD_NETWORK:-default}" --tag gradtape .

    local size files
    size=$(docker image inspect --format '{{.Size}}' gradtape)
    [ "$size" -le "$LARGEST_IMAGE" ] || fail "the image has $size bytes"
    same 65532:65532 "$(docker image inspect --format '{{.Config.User}}' gradtape)" "the user"
    # What the engine itself puts into a container is no part of the image.
    container=$(docker create gradtape)
    docker export "$container" | tar --list --verbose --numeric-owner >"$scratch/files"
    docker rm --volumes "$container" >/dev/null
    files=$(awk '/^-/ && $3 > 0 { print $1, $2, $6 }' "$scratch/files")
    same "-rw-r--r-- 0/0 etc/ssl/certs/ca-certificates.crt
-rwxr-xr-x 0/0 usr/local/bin/gradtape" "$files" "the files"
    same "drwx------ 65532/65532" "$(awk '$6 == "var/lib/gradtape/" { print $1, $2 }' "$scratch/files")" "the state"
    docker run --rm --network none gradtape --version
    echo "image: $size bytes"
}

clients() {
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check ./client/python
    cargo build --quiet --package gradtape-client --example keep
}

# CHECKPOINT STEPS: trains from Python or Rust at $address; prints the bits.
python_keep() { GRADTAPE_ADDRESS=$address "$scratch/venv/bin/python" client/python/examples/keep.py "$@" | sed 's/.*bits //'; }
rust_keep() { cargo run --quiet --package gradtape-client --example keep -- "http://$address" "$@" | sed 's/.*bits //'; }

confined() {
    start gradtape
    same "true [ALL] [no-new-privileges:true]" \
        "$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$container")" \
        "how the container is confined"
    if docker exec "$container" sh -c true 2>/dev/null; then fail "the image has a shell"; fi
    echo "confined: no shell, nothing to write to but the volume"
}

readme() {
    start gradtape
    local snippet printed
    snippet=$(awk '/^<!-- python snippet -->$/ { found = 1 } found && /^```$/ { exit } inside { print } found && /^```python$/ { inside = 1 }' README.md)
    printed=$(GRADTAPE_ADDRESS=$address "$scratch/venv/bin/python" -c "$snippet")
    same 6.0 "$printed" "README.md's snippet"
    if command -v grpcurl >/dev/null && command -v jq >/dev/null; then scripts/grpcurl-session.sh "$address"; fi
    echo "readme: the snippet's gradient is $printed"
}

# A checkpoint is on the volume, so it outlives a container that is killed, and one that is removed.
checkpoints_survive() {
    local client whole half
    for client in python_keep rust_keep; do
        start gradtape
        whole=$("$client" "$client-whole" 90)
        "$client" "$client-half" 30 >/dev/null
        docker kill "$container" >/dev/null
        start gradtape
        "$client" "$client-half" 30 >/dev/null
        docker rm --force "$container" >/dev/null
        start gradtape
        half=$("$client" "$client-half" 30)
        same "$whole" "$half" "the bits after two ends"
        echo "checkpoints_survive: $client goes on with the bits $half"
    done
}

# A program whose server is killed and started again goes on in its session, and sees nothing of it but a pause.
sessions_survive() {
    # Ports that the engine chooses are others after a start.
    GRADTAPE_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    start gradtape
    cat >"$scratch/steps.py" <<'END'
import sys

import gradtape as tf

w, b = tf.Variable(0.1), tf.Variable(0.1)
adam = tf.keras.optimizers.Adam(learning_rate=0.05)
x = tf.range(10.0)
for step in range(60):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(2.0 * x - 1.0 - (w * x + b)))
    adam.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b]))
    print(loss.numpy().tobytes().hex(), flush=True)
    if sys.argv[1:]:
        sys.stdin.readline()
END
    local program=("$scratch/venv/bin/python" "$scratch/steps.py") whole disturbed
    export GRADTAPE_ADDRESS=$address
    whole=$("${program[@]}")
    # It takes a step for each line, so it is in the middle when the server dies.
    mkfifo "$scratch/turns"
    "${program[@]}" "by turns" <"$scratch/turns" >"$scratch/losses" &
    local trains=$!
    exec 3>"$scratch/turns"
    for _ in $(seq 30); do echo >&3; done
    until [ "$(wc --lines <"$scratch/losses")" = 31 ]; do kill -0 "$trains" || fail "the training ended"; sleep 0.1; done
    docker kill "$container" >/dev/null
    start gradtape
    for _ in $(seq 30); do echo >&3; done
    exec 3>&-
    wait "$trains" || fail "the training did not go on"
    disturbed=$(cat "$scratch/losses")
    unset GRADTAPE_ADDRESS
    GRADTAPE_PORT=0
    same "$whole" "$disturbed" "the losses over a kill"
    echo "sessions_survive: the same sixty losses over a kill"
}

# A copy of deploy/, so that secrets of this machine are neither used nor changed.
encrypted() {
    cp --recursive deploy docker-compose.yml "$scratch"
    rm --recursive --force "$scratch/deploy/secrets" "$scratch/deploy/state"
    local token python=$scratch/venv/bin/python
    token=$("$scratch/deploy/make-secrets.sh" ada | head --lines 1)
    compose+=(--file "$scratch/docker-compose.yml" --project-directory "$scratch")
    GRADTAPE_USER="$(id -u):$(id -g)"
    export GRADTAPE_USER GRADTAPE_CA=$scratch/deploy/secrets/ca.pem
    start gradtape-tls
    address=https://${address/127.0.0.1/localhost}
    if GRADTAPE_TOKEN=gt_wrong python_keep tls 1 >/dev/null 2>&1; then fail "a wrong token is taken"; fi
    same "$(GRADTAPE_TOKEN=$token python_keep whole 20)" \
        "$(GRADTAPE_TOKEN=$token python_keep half 10 >/dev/null; GRADTAPE_TOKEN=$token python_keep half 10)" "the bits over TLS"
    # From another container, by a name: the static binary asks the engine's DNS.
    "${compose[@]}" run --rm gradtape-tls healthcheck https://gradtape-tls:50051 --ca /run/secrets/gradtape/ca.pem
    echo "encrypted: trained with a token, found by name"
}

# The keys of an identity provider come by HTTPS, and whom the image trusts is in its file of root certificates.
identity_provider() {
    local secrets=$scratch/deploy/secrets
    echo '{"keys": [{"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}' >"$scratch/keys"
    # The image's user reads it, and not whoever runs this.
    install --mode 0644 "$secrets/ca.pem" "$scratch/roots"
    : >"$scratch/provider"
    python3 -u - "$scratch" "$secrets" >"$scratch/provider" 2>&1 <<'END' &
import functools, http.server, ssl, sys

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/cert.pem", sys.argv[2] + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_port)
server.serve_forever()
END
    provider=$!
    until grep --quiet '^port' "$scratch/provider"; do kill -0 "$provider" || fail "no identity provider"; sleep 0.1; done
    local port
    port=$(awk '/^port/ { print $2 }' "$scratch/provider")
    # The certificate is for this name too.
    docker run --detach --name gradtape-test-keys --read-only --cap-drop ALL \
        --add-host gradtape-tls:host-gateway --volume "$scratch/roots:/etc/ssl/certs/ca-certificates.crt:ro" \
        gradtape serve --jwt-issuer issuer --jwt-audience us --jwks "https://gradtape-tls:$port/keys" >/dev/null
    for _ in $(seq 50); do
        if grep --quiet 'GET /keys HTTP/1.1" 200' "$scratch/provider"; then
            echo "identity_provider: the keys are fetched from a name that the image's roots vouch for"
            return
        fi
        sleep 0.2
    done
    docker logs gradtape-test-keys
    fail "the keys are not fetched: $(cat "$scratch/provider")"
}

metrics() {
    start gradtape-metrics
    local host
    host=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container")
    curl --silent --fail "http://$host:9464/metrics" | grep --quiet '^gradtape_connections' || fail "no metrics"
    echo "metrics: served within the network of the compose file"
}

[ -n "${SKIP_BUILD:-}" ] || image
clients
confined
readme
checkpoints_survive
sessions_survive
encrypted
identity_provider
metrics
echo "engine test passed"
