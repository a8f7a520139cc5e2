#!/bin/sh
# Full fine-tuning of a random Llama of 8 billion parameters by DPO on one GPU of 80 GB: bf16 weights with 16 bits of what
# rounding took, moments in 8 bits, gradients in bf16, activation checkpointing. Fails when the memory in use differs by more
# than a tenth from what `metareward plan` computes, or when it does not fit.
#
#   PYTHON=venv/bin/python benches/train_gpu.sh [pairs]
#
# Without a GPU:  SIZE=tiny DEVICE=cpu benches/train_gpu.sh 8   runs the same steps in small, without the check of memory.
set -eu
pairs=${1:-64}
root=$(cd "$(dirname "$0")/.." && pwd)
prompts=${PROMPTS:-$root/../shared/data/prompts/arena_hard_v0.1.jsonl}
if [ ! -f "$prompts" ]; then
    echo "skipped: there are no prompts in $prompts"
    exit 0
fi
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-$root/target}
folder=${FOLDER:-$(mktemp -d)}
size=${SIZE:-8b}
device=${DEVICE:-cuda:0}
if [ "$device" != cpu ] && [ ! -e /dev/nvidiactl ]; then
    echo "skipped: this machine has no GPU; SIZE=tiny DEVICE=cpu runs the same steps in small"
    exit 0
fi
for example in judging_speed training_speed; do
    [ -x "$target/release/examples/$example" ] ||
        (cd "$root" && cargo build --quiet --release -p metareward-torch --example "$example")
done
"$target/release/examples/judging_speed" make "$folder/plain" "$prompts" 64 1 4 plain
"$python" "$root/benches/python/random_llama.py" "$folder/plain" "$folder/model" --size "$size" --dtype bfloat16 2>/dev/null
"$python" - "$prompts" "$folder/pairs.jsonl" "$pairs" <<'P'
import json, sys

prompts, pairs, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
texts = []
for line in open(prompts, encoding="utf-8"):
    record = json.loads(line)
    text = record.get("prompt") or record["turns"][0]["content"]
    texts.append(text)
with open(pairs, "w", encoding="utf-8") as out:
    for index in range(count):
        words = " ".join(texts[(index + step) % len(texts)] for step in range(8)).split()
        chosen, rejected = " ".join(words[:300]), " ".join(words[100:400])
        record = {"prompt": texts[index % len(texts)], "chosen": chosen, "rejected": rejected}
        out.write(json.dumps(record) + "\n")
P
for form in "weights=compensated state=8bit gradients=bf16" "weights=stochastic state=8bit gradients=bf16"; do
    # shellcheck disable=SC2086
    echo "$form $("$target/release/examples/training_speed" "$folder/model" "$folder/pairs.jsonl" "device=$device" dtype=bf16 \
        batch=32 micro=8192 max_length=1024 checkpointing $form)"
done | tee "$folder/train_gpu.txt"
[ "$device" = cpu ] || "$python" - "$folder/train_gpu.txt" <<'P'
import json, sys

for line in open(sys.argv[1], encoding="utf-8"):
    form, report = line.split(" {", 1)
    report = json.loads("{" + report)
    used, predicted = report["device_bytes"], report["predicted_bytes"] + 500_000_000
    print(f"{form}: {used / 1e9:.1f} GB in use, {predicted / 1e9:.1f} GB predicted, {report['tokens_per_second']:.0f} tokens/s")
    assert abs(used / predicted - 1) < 0.1, "the prediction is off by more than a tenth"
P
