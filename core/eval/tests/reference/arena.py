"""Makes arena.json: seeded Arena-Hard judgments, and what a logistic regression and plain means make of them.

Run with scikit-learn 1.6.1 and numpy 2.2.6: `python arena.py > arena.json`. The regression has one column per model, +1 for the
one side and -1 for the other, no penalty; a tie is half a win for either. Strong verdicts are three rows.
"""

import json

import numpy
from sklearn.linear_model import LogisticRegression

LABELS = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
TURNED = dict(zip(LABELS, reversed(LABELS)))
POINTS = {"A>>B": [1, 1, 1], "A>B": [1], "A=B": [0.5], "B>A": [0], "B>>A": [0, 0, 0]}


def judgments(random, model, opponent, questions, strength):
    """Two games per question; now and then one without a label. The opponent's answer is A in the first."""
    for question in range(questions):
        games = []
        for turned in (False, True):
            place = int(numpy.clip(numpy.round(2 + strength + 1.2 * random.normal()), 0, 4))
            label = TURNED[LABELS[place]] if turned else LABELS[place]
            games.append({"score": None if random.random() < 0.03 else label, "judgment": "…"})
        yield {"question_id": f"q{question}", "model": model, "opponent": opponent, "judge": "j", "games": games}


def points(row, need_both):
    """The model's points, a strong game three times."""
    first, second = (game["score"] for game in row["games"])
    if need_both and (first is None or second is None):
        return []
    own = [1 - value for value in POINTS[first]] if first else []
    return own + (POINTS[second] if second else [])


def bradley_terry(rows, anchor):
    """Chance of winning against the anchor, by model."""
    models = sorted({row["model"] for row in rows} | {row["opponent"] for row in rows})
    features, labels, weights = [], [], []
    for row in rows:
        for value in points(row, need_both=False):
            column = numpy.zeros(len(models))
            column[models.index(row["model"])], column[models.index(row["opponent"])] = 1, -1
            for label, weight in ((1, value), (0, 1 - value)):
                features.append(column), labels.append(label), weights.append(weight)
    regression = LogisticRegression(fit_intercept=False, penalty=None, tol=1e-12, max_iter=10000)
    ratings = regression.fit(numpy.array(features), labels, sample_weight=weights).coef_[0]
    ahead = ratings - ratings[models.index(anchor)]
    return {model: float(1 / (1 + numpy.exp(-by))) for model, by in zip(models, ahead) if model != anchor}


def mean_points(rows):
    """Mean points by model, judgments with a game that has no label left out."""
    found = {}
    for row in rows:
        found.setdefault(row["model"], []).extend(points(row, need_both=True))
    return {model: float(numpy.mean(values)) for model, values in found.items()}


random = numpy.random.default_rng(20240417)
star = [
    row
    for model, strength in (("weak", -0.7), ("even", 0.0), ("strong", 0.9))
    for row in judgments(random, model, "anchor", 60, strength)
]
chain = [
    row
    for model, opponent, strength in (
        ("weak", "anchor", -0.4), ("strong", "weak", 0.9), ("strong", "even", 0.3), ("even", "anchor", 0.1),
    )
    for row in judgments(random, model, opponent, 40, strength)
]
cases = [
    {"judgments": rows, "bradley_terry": bradley_terry(rows, "anchor"), "mean_points": means}
    for rows, means in ((star, mean_points(star)), (chain, None))
]
print(json.dumps({"cases": cases}))
