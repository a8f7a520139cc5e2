#!/usr/bin/env bash
# One million battles among 100 players through Bradley–Terry without a penalty: ours and evalica's, alternating.
#
#   python -m venv venv && venv/bin/pip install evalica==0.4.2
#   PYTHON=venv/bin/python ROUNDS=5 benches/python/million-battles.sh
#
# Both are timed inside their own process, after the battles are in memory in the form each takes fastest (ours: records;
# evalica: see evalica_bradley_terry.py). Both sum the battles into pairs and find the maximum: evalica to a tolerance of
# 1e-10 between iterations, ours until no entry of the gradient is above 1e-10. One thread each.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
rounds=${ROUNDS:-5}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cargo build --release -q -p ranker-bradley-terry --example million
million=${CARGO_TARGET_DIR:-target}/release/examples/million
"$python" benches/python/evalica_bradley_terry.py make "$folder/battles"
for _ in $(seq "$rounds"); do
  "$million" "$folder/battles" 3 | sed 's/^/ours /' >>"$folder/times"
  OPENBLAS_NUM_THREADS=1 "$python" benches/python/evalica_bradley_terry.py time "$folder/battles" 3 \
    >>"$folder/times" 2>"$folder/talk"
done
cat "$folder/talk"
"$million" "$folder/battles" 1 --scores "$folder/scores" >"$folder/last"
"$python" benches/python/evalica_bradley_terry.py compare "$folder/battles" "$folder/scores" 2>"$folder/talk"
"$python" - "$folder/times" <<'EOF'
import statistics
import sys

times = {}
for line in open(sys.argv[1]):
    name, seconds = line.split()
    times.setdefault(name, []).append(float(seconds))
ours = statistics.median(times["ours"])
for name, runs in times.items():
    low, high = min(runs), max(runs)
    print(f"{name:7} median {1e3 * statistics.median(runs):8.2f} ms ({1e3 * low:.2f} to {1e3 * high:.2f}, {len(runs)} runs)"
          f"  {statistics.median(runs) / ours:6.1f} times ours")
EOF
