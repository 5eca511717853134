#!/usr/bin/env bash
# Runs the grpcurl session of README.md against a server and checks that it prints the gradient.
#
#   scripts/grpcurl-session.sh [ADDRESS]
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in grpcurl jq; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done

session=$(awk '/^<!-- grpcurl session -->$/ { found = 1 } found && /^```$/ { exit } inside { print } found && /^```sh$/ { inside = 1 }' README.md)
[ -n "$session" ] || { echo "README.md has no grpcurl session" >&2; exit 1; }
answer=$(ADDRESS="${1:-localhost:50051}" bash -euo pipefail -c "$session")
echo "$answer"
# 6.0 as float32, little-endian: the gradient of x*x at 3.
jq -e '[.batch.replies[].tensor.data // empty] == ["AADAQA=="]' >/dev/null <<<"$answer" || { echo "the gradient is not 6" >&2; exit 1; }
