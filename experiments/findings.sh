#!/usr/bin/env bash
# The paper's findings as questions, in the quickstart's world: every setting with every seed, then the table of README.md.
#
#   experiments/findings.sh OUT [SEED ...]
#
# Runs one after the other in one run folder per seed: what two settings have in common (SFT, the first iteration's
# responses and judgments) is computed once. Stopped, it goes on where it was. OUT/<setting>-<seed>.jsonl holds a run's events and
# table, OUT/<setting>-<seed>.pairs the judge pairs of its first iteration; findings.py puts them together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1
shift
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3)
mkdir -p "$out"
metareward=${METAREWARD:-target/release/metareward}
experiment=${EXPERIMENT:-experiments/quickstart}

run() { # setting seed arguments ...
    local setting=$1 seed=$2
    shift 2
    local to="$out/$setting-$seed" folder="$out/run-$seed"
    [ -s "$to.jsonl" ] && return
    "$metareward" --json run "$experiment" --run "$folder" --set seed="$seed" "$@" \
        2>>"$out/log.txt" | grep '"event":"\(stage-finished\|table\)"' >"$to.partial"
    # The folder keeps the shards of other settings too: stage.json names those of this one.
    grep -o '"file": "[^"]*"' "$folder/iteration-1/pairs/stage.json" | cut -d '"' -f 4 |
        (cd "$folder/iteration-1/pairs" && xargs cat) | grep '"kind":"judge"' >"$to.pairs" || true
    mv "$to.partial" "$to.jsonl"
    echo "$setting, seed $seed: done"
}

each() { # setting arguments ...
    local setting=$1 seed
    shift
    for seed in "${seeds[@]}"; do run "$setting" "$seed" "$@"; done
}

each schedule
each greedy --set sampler.evaluation.options.temperature=0.0
each self --set meta_judge.pairs=false
each rho0 --set selector.actor.options.rho=0.0
each self-rho0 --set meta_judge.pairs=false --set selector.actor.options.rho=0.0
each judge-share-1 --set pairs.judge_share=1.0
each n3 --set judge.judgments=3
each k3 --set actor.responses=3
each win-rate --set ranker.plugin=win-rate --accept-changed-plugins
python3 experiments/findings.py "$out"
