#!/usr/bin/env bash
# Tests what deploy/ says about monitoring: promtool takes the configuration, and a real Prometheus that scrapes a real
# server has data for each query of the dashboard.
#
#   scripts/monitoring-test.sh
#
# Needs Prometheus with promtool (Debian: apt install prometheus), Rust, curl and Python. Grafana is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp --directory)
processes=()
finish() {
    local code=$?
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    if [ "$code" != 0 ]; then tail --lines 5 "$scratch"/*.log; fi
    rm --recursive --force "$scratch"
    exit "$code"
}
trap finish EXIT

# FILE PATTERN: waits for a line.
line() { for _ in $(seq 100); do if grep --only-matching --max-count 1 "$2" "$1"; then return; fi; sleep 0.1; done; return 1; }

promtool check config deploy/prometheus.yml
cargo build --quiet --package gradtape-server --bin gradtape --package gradtape-client --example keep
target=${CARGO_TARGET_DIR:-target}

"$target/debug/gradtape" serve --listen 127.0.0.1:0 --metrics-address 127.0.0.1:0 --max-sessions 1 \
    --checkpoint-store "$scratch/checkpoints" >"$scratch/server.log" 2>&1 &
processes+=($!)
address=$(line "$scratch/server.log" 'listening on .*') address=${address#listening on }
metrics=$(line "$scratch/server.log" 'metrics on .*') metrics=${metrics#metrics on http://} metrics=${metrics%/metrics}

# The same configuration, but for the address and the pace.
sed "s/gradtape-metrics:9464/$metrics/; s/scrape_interval: .*/scrape_interval: 200ms/" deploy/prometheus.yml >"$scratch/prometheus.yml"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
prometheus --config.file "$scratch/prometheus.yml" --storage.tsdb.path "$scratch/data" \
    --web.listen-address "127.0.0.1:$port" >"$scratch/prometheus.log" 2>&1 &
processes+=($!)
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/-/ready"; do kill -0 "${processes[1]}"; sleep 0.1; done

python3 - "$port" "$address" "$target/debug/examples/keep" <<'END'
"""Works until each query of the dashboard has an answer with numbers in it."""

import json, math, subprocess, sys, time, urllib.parse, urllib.request

port, address, keep = sys.argv[1:]
with open("deploy/grafana/dashboards/gradtape.json") as file:
    panels = json.load(file)["panels"]
queries = {
    (panel["title"], target["expr"].replace("$__rate_interval", "30s"))
    for panel in panels
    for target in panel["targets"]
}


def answered(query):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query[1]})
    with urllib.request.urlopen(url) as reply:
        answer = json.load(reply)
    assert answer["status"] == "success", answer
    values = [float(series["value"][1]) for series in answer["data"]["result"]]
    return any(map(math.isfinite, values))


missing, end = queries, time.monotonic() + 60
while missing:
    if time.monotonic() > end:
        sys.exit("no data for:\n" + "\n".join(map(str, sorted(missing))))
    # The server has room for one session, so of two that come together one is refused.
    workers = [
        subprocess.Popen([keep, f"http://{address}", "work", "200"], stdout=-3, stderr=-3)
        for _ in range(2)
    ]
    for worker in workers:
        worker.wait()
    missing = {query for query in missing if not answered(query)}
print(f"{len(queries)} queries of {len(panels)} panels have data")
END
echo "monitoring test passed"
