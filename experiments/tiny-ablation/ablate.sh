#!/usr/bin/env bash
# Self-rewarding against meta-rewarding, no length control against the schedule: three seeds each.
#
#   experiments/tiny-ablation/ablate.sh OUT [SEED ...]
#
# Runs one after the other in one run folder per seed: what two settings have in common (SFT, the first iteration's
# responses and judgments) is computed once. Stopped, it goes on where it was. The tables come to OUT/<setting>-<seed>.json,
# and summarise.py puts them together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$1
shift
seeds=("${@:-1}")
[ $# -gt 0 ] || seeds=(1 2 3)
mkdir -p "$out"
metareward=${METAREWARD:-target/release/metareward}

run() { # setting seed arguments ...
    local setting=$1 seed=$2
    shift 2
    [ -s "$out/$setting-$seed.json" ] && return
    "$metareward" --json run experiments/quickstart --run "$out/run-$seed" --set name=tiny-ablation --set seed="$seed" "$@" \
        2>>"$out/log.txt" | grep '"event":"table"' >"$out/$setting-$seed.json.partial"
    mv "$out/$setting-$seed.json.partial" "$out/$setting-$seed.json"
    echo "$setting, seed $seed: done"
}

for seed in "${seeds[@]}"; do
    run meta-schedule "$seed"
    run meta-rho0 "$seed" --set selector.actor.options.rho=0.0
    run self-schedule "$seed" --set meta_judge.pairs=false
    run self-rho0 "$seed" --set meta_judge.pairs=false --set selector.actor.options.rho=0.0
done
python3 experiments/tiny-ablation/summarise.py "$out"
