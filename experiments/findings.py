"""Put the runs of findings.sh together: questions, and means over seeds with 95 % t intervals, as Markdown. Standard library only.

    python3 findings.py OUT
"""

import json
import math
import pathlib
import re
import sys

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
SHOWN = ["points", "perfect", "length", "judge_score", "agreement", "spearman"]
DIGITS = {"points": 2, "perfect": 1, "length": 2, "judge_score": 2, "agreement": 1, "spearman": 3}


class Run:
    """One setting with one seed."""

    def __init__(self, path):
        self.verdicts = {}
        self.pairs = {}
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "table":
                table = event["table"]
            elif event["stage"] == "verdicts":
                self.verdicts[event["place"]["iteration"]] = event["statistics"]
        keys = [(place, column["key"], column["scale"]) for place, column in enumerate(table["columns"])]
        self.headings = {column["key"]: column["heading"] for column in table["columns"]}
        self.values = {}
        for row in table["rows"]:
            for place, key, scale in keys:
                if row["cells"][place]:
                    self.values[row["name"], key] = row["cells"][place]["value"] * scale
        self.models = [row["name"] for row in table["rows"]]
        pairs = path.with_suffix(".pairs")
        for line in pairs.read_text().splitlines() if pairs.exists() else []:
            pair = json.loads(line)
            self.pairs[pair["prompt"]] = (pair["response"], pair["chosen"]["draw"], pair["rejected"]["draw"])

    def change(self, key, model, before="sft"):
        """Difference of two models, or None where one has no such value."""
        if (model, key) not in self.values or (before, key) not in self.values:
            return None
        return self.values[model, key] - self.values[before, key]

    def rate(self, iteration, name):
        """A rate of the verdicts, in per cent."""
        rate = self.verdicts[iteration][name]
        return 100 * rate["count"] / rate["of"]


def interval(values):
    """Mean and half width of its interval over seeds."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, T[len(values) - 1] * deviation / math.sqrt(len(values))


def show(values, digits=1, signed=True, unit=""):
    mean, half = interval(values)
    width = "" if math.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:+.{digits}f}{width}{unit}" if signed else f"{mean:.{digits}f}{width}{unit}"


def verdict(values):
    """What the interval over seeds allows to say of a difference."""
    mean, half = interval(values)
    if math.isnan(half) or abs(mean) <= half:
        return "no difference beyond the interval"
    return "up" if mean > 0 else "down"


def questions(runs):
    """Rows of the table: question, what was measured, answer."""

    def each(setting, value):
        return [value(run) for _, run in sorted(runs.get(setting, {}).items())]

    def both(first, second, value):
        common = sorted(runs.get(first, {}).keys() & runs.get(second, {}).keys())
        return [value(runs[first][seed]) - value(runs[second][seed]) for seed in common]

    rows = []
    first = next(iter(runs["schedule"].values()))
    models = [model for model in first.models if model != "seed"]
    for before, model in zip(models, models[1:]):
        values = each("schedule", lambda run: run.change("perfect", model, before))
        rows.append(("Does the actor improve in every iteration?", f"perfect answers, {model} − {before}", values, 1, " %"))
    last = models[-1]
    for setting, words in [("schedule", "sampled"), ("greedy", "greedy answers"), ("self", "sampled, self-rewarding")]:
        values = each(setting, lambda run: run.change("perfect", last))
        rows.append(("… over the whole run?", f"perfect answers, {last} − sft, {words}", values, 1, " %"))
    values = each("schedule", lambda run: run.change("points", last))
    rows.append(("… over the whole run?", f"oracle points, {last} − sft", values, 2, ""))
    values = both("schedule", "self", lambda run: run.values[last, "perfect"])
    rows.append(("Is the actor better for judge training?", f"perfect answers of {last}, meta − self", values, 1, " %"))
    question = "Does judge training beat self-rewarding in judge agreement?"
    for key, words, digits, unit in [("spearman", "Spearman with the oracle", 3, ""), ("agreement", "agreement", 1, " %")]:
        for model in ["M1", "M2", last]:
            values = both("schedule", "self", lambda run: run.values[model, key])
            rows.append((question, f"{words} of {model}, meta − self", values, digits, unit))
    for setting, words in [
        ("rho0", "rho = 0, meta"), ("self-rho0", "rho = 0, self"), ("schedule", "schedule, meta"), ("self", "schedule, self"),
    ]:
        values = each(setting, lambda run: run.change("length", last))
        rows.append(("Does length grow with rho = 0 and not with the schedule?", f"words, {last} − sft, {words}", values, 2, ""))
    for setting, words in [("schedule", "meta"), ("self", "self")]:
        for model in ["M1", "M2"]:
            values = each(setting, lambda run: run.change("judge_score", model))
            rows.append(("Does the judge's mean score drift up?", f"{model} − sft, {words}", values, 2, ""))
    question = "Does position bias grow?"
    for name, words in [("first", "all"), ("first_equal", "equal scores"), ("first_different", "different scores")]:
        values = each("schedule", lambda run: run.rate(2, name) - run.rate(1, name))
        rows.append((question, f"first position wins, {words}: iteration 2 − 1", values, 1, " %"))
    values = each("schedule", lambda run: run.rate(2, "higher_wins") - run.rate(1, "higher_wins"))
    rows.append(("Does the higher score come to win?", "higher score wins: iteration 2 − 1", values, 1, " %"))
    for key, model, words, digits, unit in [
        ("spearman", "M2", "judge Spearman of M2", 3, ""),
        ("judge_score", "M2", "judge's mean score of M2", 2, ""),
        ("perfect", last, f"perfect answers of {last}", 1, " %"),
    ]:
        values = both("judge-share-1", "schedule", lambda run: run.values[model, key])
        question = "Does the judge stand judge pairs in half of a batch?"
        rows.append((question, f"{words}, half − 15 %", values, digits, unit))
    question = "Does Elo differ from a plain win rate?"
    for key, words, digits, unit in [("spearman", "Spearman of M2", 3, ""), ("perfect", f"perfect answers of {last}", 1, " %")]:
        model = "M2" if key == "spearman" else last
        values = both("schedule", "win-rate", lambda run: run.values[model, key])
        rows.append((question, f"{words}, Elo − win rate", values, digits, unit))
    for setting, words in [("n3", "N = 11 − N = 3"), ("k3", "K = 7 − K = 3")]:
        for key, model, name, digits, unit in [
            ("perfect", last, "perfect answers", 1, " %"), ("spearman", "M2", "judge Spearman", 3, ""),
        ]:
            values = both("schedule", setting, lambda run: run.values[model, key])
            rows.append(("What do N and K buy?", f"{name} of {model}, {words}", values, digits, unit))
    return rows


def main():
    folder = pathlib.Path(sys.argv[1])
    runs = {}
    for path in sorted(folder.glob("*.jsonl")):
        setting, seed = re.fullmatch(r"(.+)-(\d+)", path.stem).groups()
        runs.setdefault(setting, {})[int(seed)] = Run(path)
    print("| question | measured | difference | seeds | answer |\n|---|---|---|---|---|")
    asked = None
    for question, measured, values, digits, unit in questions(runs):
        if not values:
            continue
        shown = "" if question == asked else question
        print(f"| {shown} | {measured} | {show(values, digits, unit=unit)} | {len(values)} | {verdict(values)} |")
        asked = question
    same = []
    for seed in sorted(runs.get("win-rate", {}).keys() & runs["schedule"].keys()):
        elo, plain = runs["schedule"][seed].pairs, runs["win-rate"][seed].pairs
        common = elo.keys() & plain.keys()
        same.append(100 * sum(elo[prompt] == plain[prompt] for prompt in common) / len(common))
    if same:
        print(f"\nSame judge pair by Elo and by win rate, iteration 1: {show(same, signed=False, unit=' %')} of prompts.")
    for iteration in [1, 2]:
        names = ["first", "first_equal", "first_different", "higher_wins"]
        rates = [[run.rate(iteration, name) for run in runs["schedule"].values()] for name in names]
        rates = [show(values, signed=False, unit=" %") for values in rates]
        print(
            f"\nVerdicts of iteration {iteration}: first position wins {rates[0]}, with equal scores {rates[1]}, "
            f"with different ones {rates[2]}; the higher score wins {rates[3]}."
        )
    for setting, found in runs.items():
        first = next(iter(found.values()))
        # Greedy answers are all alike, and the judges are measured on them: not comparable with the other settings.
        columns = [key for key in SHOWN if key in first.headings and (setting != "greedy" or key in SHOWN[:3])]
        print(f"\n**{setting}**, seeds {', '.join(map(str, sorted(found)))}\n")
        print("| model | " + " | ".join(first.headings[key] for key in columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for model in first.models:
            cells = []
            for key in columns:
                values = [run.values[model, key] for run in found.values() if (model, key) in run.values]
                cells.append(show(values, DIGITS[key], signed=False) if values else "–")
            print(f"| {model} | " + " | ".join(cells) + " |")
        last = first.models[-1]
        changes = [[run.change(key, last) for run in found.values()] for key in columns]
        cells = ["–" if None in values else show(values, DIGITS[key]) for key, values in zip(columns, changes)]
        print(f"| {last} − sft | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
