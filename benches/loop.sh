#!/bin/sh
# The whole loop, ours and Python's, in turn on the same prompts and the same model: one iteration of the quickstart
# (300 prompts, K = 7, N = 11, both orders of all matches, DPO for 3 epochs) from the model that SFT made.
#
#   PYTHON=venv/bin/python benches/loop.sh [rounds] [prompts]
#
# PYTHON needs torch, transformers and trl (versions in benches/python/loop.py). Prints seconds per stage and ratios;
# FOLDER (default: a new temporary one) keeps the run and the models. `target/release/metareward` must be built.
set -eu
rounds=${1:-1}
prompts=${2:-300}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
binary=${METAREWARD:-$root/target/release/metareward}
folder=${FOLDER:-$(mktemp -d)}
mkdir -p "$folder"
threads=${THREADS:-2}
export OMP_NUM_THREADS="$threads"

# The model of SFT: made once, not measured.
if [ ! -d "$folder/sft/sft/model" ]; then
    "$binary" run "$root/experiments/quickstart" --run "$folder/sft" --set iterations=1 \
        --set meta_judge.pairs=true --set selector.actor.options.rho=0.0 --set prompts.per_iteration=50 \
        --set evaluation.prompts=0 --set evaluation.judge_prompts=0 >"$folder/sft.txt"
fi
model=$folder/sft/sft/model
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    run=$folder/ours-$round
    rm -rf "$run"
    start=$(date +%s.%N)
    "$binary" run "$root/experiments/quickstart" --run "$run" --set sft.enabled=false --set "model.path=$model" \
        --set iterations=1 --set meta_judge.pairs=true --set selector.actor.options.rho=0.0 \
        --set "prompts.per_iteration=$prompts" --set evaluation.prompts=0 \
        --set evaluation.judge_prompts=0 --set engine.threads="$threads" >"$folder/ours-$round.txt"
    end=$(date +%s.%N)
    echo "$start $end" >"$run.time"
    "$python" "$root/benches/python/loop.py" --run "$run" --model "$model" --threads "$threads" \
        --templates "$root/experiments/quickstart/templates" --rows "${ROWS:-192}" --out "$folder/python-$round.json" \
        >"$folder/python-$round.txt" 2>&1 || { tail -5 "$folder/python-$round.txt"; exit 1; }
done
"$python" "$root/benches/python/compare_loop.py" "$folder" "$rounds"
