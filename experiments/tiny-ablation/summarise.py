"""Put the tables of ablate.sh together: mean over seeds with a 95 % t interval, as Markdown. Standard library only.

    python3 summarise.py OUT
"""

import json
import math
import pathlib
import re
import sys

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
SHOWN = ["points", "perfect", "length", "judge_score", "agreement", "spearman"]


def interval(values):
    """Mean and half width of its interval over seeds; no width where there is one seed."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, T[len(values) - 1] * deviation / math.sqrt(len(values))


def main():
    folder = pathlib.Path(sys.argv[1])
    runs = {}
    for path in sorted(folder.glob("*.json")):
        setting, seed = re.fullmatch(r"(.+)-(\d+)", path.stem).groups()
        runs.setdefault(setting, {})[int(seed)] = json.loads(path.read_text())["table"]
    for setting, tables in runs.items():
        first = next(iter(tables.values()))
        columns = [(place, column) for place, column in enumerate(first["columns"]) if column["key"] in SHOWN]
        print(f"\n**{setting}**, seeds {', '.join(map(str, tables))}\n")
        print("| model | " + " | ".join(column["heading"] for _, column in columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for row in range(len(first["rows"])):
            name = first["rows"][row]["name"]
            cells = []
            for place, column in columns:
                found = [table["rows"][row]["cells"][place] for table in tables.values()]
                values = [cell["value"] * column["scale"] for cell in found if cell]
                if not values:
                    cells.append("–")
                    continue
                mean, half = interval(values)
                digits = column["digits"] + (column["key"] == "length")
                cells.append(f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}"))
            print(f"| {name} | " + " | ".join(cells) + " |")
        # Changes from SFT to the last model, paired within each seed.
        last = first["rows"][-1]["name"]
        cells = []
        for place, column in columns:
            found = [table["rows"][-1]["changes"][place] for table in tables.values()]
            values = [cell["value"] * column["scale"] for cell in found if cell]
            mean, half = interval(values) if values else (math.nan, math.nan)
            digits = column["digits"] + (column["key"] == "length")
            cells.append(f"{mean:+.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}"))
        print(f"| {last} − SFT | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
