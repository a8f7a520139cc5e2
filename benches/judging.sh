#!/bin/sh
# Judging on two cores: 11 judgments per response with a rubric of 300 tokens, ours with and without sharing, and
# transformers' generate with num_return_sequences = 11, in turn on the same conversations and the same random model.
#
#   PYTHON=venv/bin/python benches/judging.sh [rounds] [hidden] [layers] [conversations]
#
# Real prompts come from ../shared/data/prompts; without them the script says so and ends.
set -eu
rounds=${1:-3}
root=$(cd "$(dirname "$0")/.." && pwd)
prompts=${PROMPTS:-$root/../shared/data/prompts/arena_hard_v0.1.jsonl}
if [ ! -f "$prompts" ]; then
    echo "skipped: there are no prompts in $prompts"
    exit 0
fi
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-$root/target}
folder=${FOLDER:-$(mktemp -d)}
mkdir -p "$folder"
threads=${THREADS:-2}
tokens=${TOKENS:-48}
ours() {
    "$target/release/examples/judging_speed" run "$folder" "threads=$threads" "tokens=$tokens" "$@"
}
(cd "$root" && cargo build --quiet --release -p metareward-torch --example judging_speed)
"$target/release/examples/judging_speed" make "$folder" "$prompts" "${2:-512}" "${3:-8}" "${4:-12}"
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    echo "ours $(ours)"
    echo "bf16 $(ours dtype=bf16)"
    echo "alone $(ours no-sharing)"
    for rows in ${ROWS:-44 132}; do
        echo "python $("$python" "$root/benches/python/judging.py" "$folder" --threads "$threads" --tokens "$tokens" \
            --rows "$rows" 2>/dev/null)"
    done
done | tee "$folder/judging.txt"
"$python" - "$folder/judging.txt" <<'P'
import json, statistics, sys
seconds, tokens = {}, {}
for line in open(sys.argv[1], encoding="utf-8"):
    name, report = line.split(" ", 1)
    report = json.loads(report)
    key = name if name != "python" else f"python, {report['rows']} rows"
    seconds.setdefault(key, []).append(report["answer_tokens_per_second"])
    tokens[key] = report["answer_tokens"]
ours = seconds["ours"]
for name, rates in seconds.items():
    ratios = sorted(a / b for a, b in zip(ours, rates))
    print(f"{name:18} {statistics.median(rates):9.0f} answer tokens/s; ours is {statistics.median(ratios):5.1f} times as fast "
          f"({ratios[0]:.1f} to {ratios[-1]:.1f}); {tokens[name]} answer tokens")
least, most = min(tokens.values()), max(tokens.values())
if least < 0.98 * most:
    # Where answers end early and not alike, a batch of transformers computes on for the ones that have ended.
    print(f"not the same work: {least} to {most} answer tokens; lower TOKENS, so that few answers end before")
P
