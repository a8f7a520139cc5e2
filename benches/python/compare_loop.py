"""Puts the seconds of loop.sh side by side: python compare_loop.py FOLDER ROUNDS."""

import json
import os
import statistics
import sys

folder, rounds = sys.argv[1], int(sys.argv[2])
names = ["responses", "judgments", "verdicts", "pairs", "training", "whole process"]
ours, python = {name: [] for name in names}, {name: [] for name in names}
for number in range(1, rounds + 1):
    run = os.path.join(folder, f"ours-{number}")
    seconds = {}
    for line in open(os.path.join(run, "events.jsonl"), encoding="utf-8"):
        event = json.loads(line)
        if event["event"] == "stage-finished" and event["place"] == {"iteration": 1}:
            # What Python does in one go: rating and pairing; reference log-probabilities and training.
            stage = {"ratings": "pairs", "unpaired": "pairs", "reference": "training"}.get(event["stage"], event["stage"])
            seconds[stage] = seconds.get(stage, 0.0) + event["seconds"]
            print(f"round {number}, ours: {event['stage']}: {event['records']} in {event['seconds']:.2f} s")
    start, end = map(float, open(run + ".time", encoding="utf-8").read().split())
    seconds["whole process"] = end - start
    report = json.load(open(os.path.join(folder, f"python-{number}.json"), encoding="utf-8"))
    print(f"round {number}, Python:", json.dumps(report))
    for name in names:
        ours[name].append(seconds.get(name, 0.0))
        python[name].append(report["seconds"].get(name, 0.0))
print(f"{'stage':14} {'ours, s':>9} {'Python, s':>10} {'ratio':>7}   median of {rounds}, ratios from lowest to highest")
for name in names:
    ratios = sorted(p / max(o, 1e-9) for o, p in zip(ours[name], python[name]))
    print(
        f"{name:14} {statistics.median(ours[name]):9.2f} {statistics.median(python[name]):10.2f} "
        f"{statistics.median(ratios):7.1f}   {ratios[0]:.1f} to {ratios[-1]:.1f}"
    )
