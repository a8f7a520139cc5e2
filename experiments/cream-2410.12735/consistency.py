"""How alike two judges rank, for CREAM's label weight: each model of a run against the one before it. Standard library only.

    python3 consistency.py RUN

Every model of a run judges the same held-out answers (`evaluation.judge_prompts`). Per prompt, Kendall's tau-a of the two models'
rewards over the answers, a tie in either counting zero; consistency = (tau + 1) / 2, averaged over prompts. label_smoothing is
1 - consistency, and below one half.
"""

import collections
import itertools
import json
import pathlib
import sys


def rewards(folder):
    """Mean score per prompt and response, from shards of judgments."""
    scores = collections.defaultdict(list)
    for shard in sorted(folder.glob("*.jsonl")):
        for line in shard.read_text().splitlines():
            judgment = json.loads(line)
            if judgment.get("score") is not None:
                scores[judgment["prompt"], judgment["response"]].append(judgment["score"])
    by_prompt = collections.defaultdict(dict)
    for (prompt, response), values in scores.items():
        by_prompt[prompt][response] = sum(values) / len(values)
    return by_prompt


def sign(value):
    return (value > 0) - (value < 0)


def consistency(first, second):
    """Mean over prompts of (tau + 1) / 2 and the number of prompts with two answers or more."""
    per_prompt = []
    for prompt in first.keys() & second.keys():
        both = sorted(first[prompt].keys() & second[prompt].keys())
        pairs = list(itertools.combinations(both, 2))
        if pairs:
            agreed = sum(
                sign(first[prompt][a] - first[prompt][b]) * sign(second[prompt][a] - second[prompt][b]) for a, b in pairs
            )
            per_prompt.append((agreed / len(pairs) + 1) / 2)
    if not per_prompt:
        sys.exit("no prompt has two answers that both models judged: raise evaluation.judge_prompts and .responses")
    # Sorted, so that the sum does not depend on the order of a set.
    return sum(sorted(per_prompt)) / len(per_prompt), len(per_prompt)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = pathlib.Path(sys.argv[1])
    models = ["seed", "sft"] + [f"M{t}" for t in range(1, 100)]
    folders = [(name, run / "evaluation" / name / "judgments") for name in models]
    folders = [(name, folder) for name, folder in folders if folder.is_dir()]
    for (before, old), (name, new) in zip(folders, folders[1:]):
        value, prompts = consistency(rewards(old), rewards(new))
        smoothing = min(1 - value, 0.499)
        print(f"{before} to {name}: consistency {value:.3f} over {prompts} prompts; label_smoothing {smoothing:.3f}")


if __name__ == "__main__":
    main()
