#!/bin/sh
# DPO on two cores, ours and TRL's in turn on the same pairs and the same random weights: tokens per second, peak memory
# and their ratios, for a model of 10 and one of 50 million parameters.
#
#   PYTHON=venv/bin/python benches/training.sh [rounds] [sizes] [pairs]
#
# PYTHON needs torch, transformers and trl (versions in benches/python/train_trl.py). The texts are questions and answers of
# ../shared/data/alpaca_eval, the tokenizer is made from ../shared/data/prompts (or TOKENIZER, a folder with one); without
# them the script says so and ends. PAIRS=judge has a rubric before each.
set -eu
rounds=${1:-3}
sizes=${2:-10m 50m}
count=${3:-64}
root=$(cd "$(dirname "$0")/.." && pwd)
annotations=${ANNOTATIONS:-$root/../shared/data/alpaca_eval/annotations_gpt-3.5-turbo-1106.json}
prompts=${PROMPTS:-$root/../shared/data/prompts/arena_hard_v0.1.jsonl}
for file in "$annotations" "$prompts"; do
    if [ ! -f "$file" ]; then
        echo "skipped: there are no texts in $file"
        exit 0
    fi
done
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-$root/target}
threads=${THREADS:-2}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$root" && cargo build --quiet --release -p metareward-torch --example training_speed --example judging_speed)
if [ -z "${TOKENIZER:-}" ]; then
    # A small model of that bench, for its tokenizer.
    "$target/release/examples/judging_speed" make "$folder" "$prompts" 64 1 1
fi
for size in $sizes; do
    echo "$size parameters"
    "$python" "$root/benches/python/train_trl.py" --ours "$target/release/examples/training_speed" --rounds "$rounds" \
        --pairs "${PAIRS:-actor}" --annotations "$annotations" --size "$size" --count "$count" --threads "$threads" \
        --tokenizer "${TOKENIZER:-$folder}" --device-batches "${DEVICE_BATCHES:-2,4,8}" \
        --batch "${BATCH:-32}" --micro "${MICRO:-8192}" --max-length "${MAX_LENGTH:-1024}"
done
