#!/usr/bin/env bash
# Two processes of one thread each beside one process of two threads and one of one, on the quickstart's first iteration:
# seconds of generation (responses, judgments, verdicts, evaluation) and of training, and CPU seconds of all processes.
#
#     benches/ranks.sh [BINARY] [FOLDER]
#
# BINARY: by default target/release/metareward. Seconds mean something on an idle machine; CPU seconds also beside others.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/metareward}
folder=${2:-$(mktemp -d)}
mkdir -p "$folder"
port=29700

run() { # name, processes, threads
  local name=$1 processes=$2 threads=$3 rank
  port=$((port + 1))
  local arguments=(run experiments/quickstart --no-report --run "$folder/$name" --set iterations=1
    --set 'selector.actor.options.rho=0.0' --set meta_judge.pairs=true --set "engine.threads=$threads")
  export OMP_NUM_THREADS=1
  if [ "$processes" = 1 ]; then
    "$binary" "${arguments[@]}" >/dev/null 2>"$folder/$name.log"
  else
    local ids=()
    for rank in $(seq 0 $((processes - 1))); do
      RANK=$rank WORLD_SIZE=$processes MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        "$binary" "${arguments[@]}" >/dev/null 2>"$folder/$name.log$rank" &
      ids+=($!)
    done
    for rank in "${ids[@]}"; do wait "$rank"; done
  fi
}

measure() {
  # Not in a subshell, which has children of its own.
  times >"$folder/before"
  run "$@"
  times >"$folder/after"
  python3 - "$folder/$1/events.jsonl" "$1" "$folder/before" "$folder/after" <<'PYTHON'
import json, re, sys


def cpu(path):
    """CPU seconds of all children that had ended."""
    return sum(60 * int(m) + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", open(path).read().splitlines()[1]))


path, name, before, after = sys.argv[1:]
seconds = {"generation": 0.0, "training": 0.0}
for line in open(path):
    event = json.loads(line)
    if event["event"] == "stage-finished":
        stage = event["stage"]
        if stage == "training":
            seconds["training"] += event["seconds"]
        elif stage in ("responses", "judgments", "verdicts"):
            seconds["generation"] += event["seconds"]
print(f"{name:<28} generation {seconds['generation']:6.2f} s   training {seconds['training']:6.2f} s   "
      f"CPU {cpu(after) - cpu(before):6.2f} s")
PYTHON
}

for round in 1 2 3; do
  measure "one-thread-$round" 1 1
  measure "two-threads-$round" 1 2
  measure "two-processes-$round" 2 1
done
