#!/bin/sh
# Generation on one GPU: a random Llama of 8 billion parameters in bf16; 7 answers of 300 tokens to prompts of 200, and 11
# judgments over prefixes of some 600 tokens. Ours against transformers on the same card, in turn, and against the floor.
#
#   PYTHON=venv/bin/python benches/gpu.sh [conversations]
#
# Without a GPU:  SIZE=tiny DEVICE=cpu DTYPE=f32 TOKENS=12 benches/gpu.sh 3   runs the same steps in small: ours on libtorch's tensors as on a
# GPU. BANDWIDTH (bytes/s) and PEAK (operations/s) describe the card; the defaults are an H100 SXM's.
set -eu
conversations=${1:-64}
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
size=${SIZE:-8b}
device=${DEVICE:-cuda:0}
dtype=${DTYPE:-bf16}
tokens=${TOKENS:-300}
case $dtype in bf16) torch_dtype=bfloat16 ;; *) torch_dtype=float32 ;; esac
if [ "$device" != cpu ] && [ ! -e /dev/nvidiactl ]; then
    echo "skipped: this machine has no GPU; SIZE=tiny DEVICE=cpu DTYPE=f32 TOKENS=12 runs the same steps in small"
    exit 0
fi
speed="$target/release/examples/judging_speed"
# A GPU machine may have no Rust: the example can be built elsewhere and carried there.
[ -x "$speed" ] || (cd "$root" && cargo build --quiet --release -p metareward-torch --example judging_speed)
for what in plain judging; do
    "$speed" make "$folder/$what" "$prompts" 64 1 "$conversations" "$what"
done
"$python" "$root/benches/python/random_llama.py" "$folder/judging" "$folder/model" --size "$size" --dtype "$torch_dtype" 2>/dev/null
for what in plain judging; do
    cp "$folder/$what/conversations.jsonl" "$folder/model/"
    draws=7
    [ "$what" = plain ] || draws=11
    echo "$what ours $("$speed" run "$folder/model" "device=$device" "dtype=$dtype" "draws=$draws" "tokens=$tokens" tensors)"
    for rows in ${ROWS:-$((draws * 16)) $((draws * 48))}; do
        echo "$what python $("$python" "$root/benches/python/judging.py" "$folder/model" --device "$device" \
            --dtype "$torch_dtype" --draws "$draws" --tokens "$tokens" --rows "$rows" 2>/dev/null)"
    done
done | tee "$folder/gpu.txt"
"$python" - "$folder/gpu.txt" "${BANDWIDTH:-3.35e12}" "${PEAK:-989e12}" <<'P'
import json, sys
bandwidth, peak = map(float, sys.argv[2:])
best, ours = {}, {}
for line in open(sys.argv[1], encoding="utf-8"):
    what, who, report = line.split(" ", 2)
    report = json.loads(report)
    if who == "ours":
        ours[what] = report
    else:
        best[what] = max(best.get(what, 0.0), report["answer_tokens_per_second"])
for what, report in ours.items():
    weights = report["parameters"] * (2 if report["dtype"] == "bf16" else 4)
    reading = report["passes"] * weights / bandwidth
    products = 2 * report["parameters"] * (report["prompt_computed"] + report["answer_computed"]) / peak
    print(
        f"{what}: {report['answer_tokens_per_second']:.0f} answer tokens/s, {report['answer_tokens_per_second'] / best[what]:.1f} "
        f"times transformers' {best[what]:.0f}; the floor of reading the weights {reading:.2f} s and of the products "
        f"{products:.2f} s is {100 * max(reading, products) / report['seconds']:.0f} % of {report['seconds']:.2f} s"
    )
P
