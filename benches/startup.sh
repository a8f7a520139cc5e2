#!/bin/sh
# Start of a process to its first answer, and load of a folder of 1 GB to its first token: ours against transformers.
#
#   PYTHON=venv/bin/python benches/startup.sh [rounds]
#
# `target/release/metareward` must be built. Needs 1 GB of disk in FOLDER (default: a new temporary one, then removed).
set -eu
rounds=${1:-3}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
binary=${METAREWARD:-$root/target/release/metareward}
folder=${FOLDER:-$(mktemp -d)}
mkdir -p "$folder"
small=$root/experiments/quickstart/seed-model
[ -f "$folder/model.safetensors" ] || "$python" "$root/benches/python/startup.py" make "$folder" "$small"
now() { date +%s.%N; }
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    for model in "$small" "$folder"; do
        a=$(now)
        "$binary" generate --model "$model" --device cpu --dtype "${DTYPE:-f32}" --greedy --max-tokens 1 --prompt "sort : fig" >/dev/null
        b=$(now)
        "$python" "$root/benches/python/startup.py" answer "$model" >"$folder/answer.txt" 2>/dev/null
        c=$(now)
        echo "$(basename "$model") $a $b $c $(cat "$folder/answer.txt")"
    done
done | tee "$folder/startup.txt"
"$python" "$root/benches/python/startup.py" compare "$folder/startup.txt"
[ -n "${FOLDER:-}" ] || rm -rf "$folder"
