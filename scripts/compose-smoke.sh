#!/usr/bin/env bash
# Builds the image, brings the server up, talks to it through the published port, and takes it down again.
# Needs docker and docker compose (the plugin or the program), and grpcurl for the session at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

export COMPOSE_PROJECT_NAME=gradtape-smoke GRADTAPE_PORT="${GRADTAPE_PORT:-50951}"
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

trap '"${compose[@]}" logs --tail 50; "${compose[@]}" down --volumes --timeout 45' EXIT
if [ -z "${SKIP_BUILD:-}" ]; then "${compose[@]}" build; fi
"${compose[@]}" up --detach --no-build

container=$("${compose[@]}" ps --quiet gradtape)
health() { docker inspect --format '{{.State.Health.Status}}' "$container"; }
for _ in $(seq 60); do
    [ "$(health)" = healthy ] && break
    sleep 1
done
[ "$(health)" = healthy ] || { echo "the container is $(health)" >&2; exit 1; }

user=$(docker inspect --format '{{.Config.User}}' "$container")
[ "$user" = 65532:65532 ] || { echo "the container runs as $user" >&2; exit 1; }

scripts/grpcurl-session.sh "127.0.0.1:$GRADTAPE_PORT"
echo "compose smoke test passed"
