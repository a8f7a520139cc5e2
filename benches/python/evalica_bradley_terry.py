"""One million battles through evalica's Bradley–Terry, for million-battles.sh.

    evalica_bradley_terry.py make FILE              write the battles
    evalica_bradley_terry.py time FILE RUNS         print seconds per run: "core SECONDS", "public SECONDS"
    evalica_bradley_terry.py compare FILE SCORES    print the largest difference from our strengths

"core" is evalica's Rust function behind the public one, given what it takes fastest (found by trying lists, arrays and
tuples): the work that our ranker does, and nothing of Python's. "public" is `evalica.bradley_terry` as its documentation
calls it, on lists with an index made before. Neither times the reading of the file or the making of the lists.
"""

import sys
import time

import evalica
import numpy as np
import pandas as pd
from evalica import _brzo

PLAYERS = 100
BATTLES = 1_000_000
TOLERANCE = 1e-10
LIMIT = 100_000


def make(file):
    """Players of Zipf-like activity, strengths spread like chat models', one battle in five a tie."""
    random = np.random.default_rng(7)
    strength = random.normal(0.0, 1.0, PLAYERS)
    activity = 1.0 / np.arange(1, PLAYERS + 1)
    activity /= activity.sum()
    left = random.choice(PLAYERS, 2 * BATTLES, p=activity)
    right = random.choice(PLAYERS, 2 * BATTLES, p=activity)
    differ = left != right
    left, right = left[differ][:BATTLES], right[differ][:BATTLES]
    chance = 1.0 / (1.0 + np.exp(strength[right] - strength[left]))
    winner = np.where(random.random(len(left)) < chance, 1, 2)
    winner[random.random(len(left)) < 0.2] = 0
    assert len(left) == BATTLES
    np.stack([left, right, winner], axis=1).astype("<u4").tofile(file)


def load(file):
    left, right, winner = np.fromfile(file, dtype="<u4").reshape(-1, 3).T
    return left, right, winner, int(max(left.max(), right.max())) + 1


def forms(left, right, winner):
    """The same battles as what the Rust function may be given."""
    weights = np.ones(len(left))
    yield "lists", [column.tolist() for column in (left, right, winner, weights)]
    yield (
        "arrays",
        [left.astype(np.uint64), right.astype(np.uint64), winner.astype(np.uint8), weights],
    )
    yield "tuples", [tuple(column.tolist()) for column in (left, right, winner, weights)]


def core(columns, players):
    return _brzo.bradley_terry(
        xs=columns[0],
        ys=columns[1],
        winners=columns[2],
        weights=columns[3],
        total=players,
        win_weight=1.0,
        tie_weight=0.5,
        tolerance=TOLERANCE,
        limit=LIMIT,
    )


def best_form(left, right, winner, players):
    """The form that the Rust function takes fastest."""
    times = {}
    for name, columns in forms(left, right, winner):
        try:
            core(columns, players)
            start = time.perf_counter()
            core(columns, players)
            times[name] = (time.perf_counter() - start, columns)
        except TypeError as error:
            print(f"# {name}: {error}", file=sys.stderr)
    name = min(times, key=lambda name: times[name][0])
    print("# " + ", ".join(f"{form} {seconds:.3f} s" for form, (seconds, _) in times.items()), file=sys.stderr)
    print(f"# evalica {evalica.__version__}, BLAS {evalica.HAS_BLAS}, {name}", file=sys.stderr)
    return times[name][1]


def main():
    command, file, *rest = sys.argv[1:]
    if command == "make":
        make(file)
        return
    left, right, winner, players = load(file)
    columns = best_form(left, right, winner, players)
    if command == "time":
        xs, ys = left.tolist(), right.tolist()
        winners = [evalica.WINNERS[value] for value in winner.tolist()]
        index = pd.Index(range(players))
        for _ in range(int(rest[0])):
            start = time.perf_counter()
            _, iterations = core(columns, players)
            print(f"core {time.perf_counter() - start}", flush=True)
            assert iterations < LIMIT
            start = time.perf_counter()
            evalica.bradley_terry(xs, ys, winners, index=index, tolerance=TOLERANCE, limit=LIMIT)
            print(f"public {time.perf_counter() - start}", flush=True)
    elif command == "compare":
        theirs, iterations = core(columns, players)
        ours = np.loadtxt(rest[0])
        difference = float(np.abs(ours / ours.sum() - theirs / theirs.sum()).max())
        print(f"largest difference of strengths that sum to 1: {difference:.1e} (theirs after {iterations} iterations)")
    else:
        raise SystemExit(__doc__)


main()
