"""Makes alpaca.json: fits of the length-controlled regression by alpaca_eval's own functions on seeded data.

Run with alpaca_eval 0.6.6, scikit-learn 1.6.1 (from 1.8 on its scores leave the weights out), patsy 1.0.2, pandas 2.3.3
and numpy 2.2.6: `python alpaca.py > alpaca.json`.
With a folder that holds `annotations_*.json` and `instruction_difficulty.csv` of AlpacaEval, it prints instead the fits to
those annotations: `python alpaca.py FOLDER`.
"""

import json
import pathlib
import sys

import numpy
import pandas
import sklearn
from alpaca_eval.metrics.glm_winrate import GLM_INFO, fit_LogisticRegressionCV, make_dmatrix_for_model

FORMULA = GLM_INFO["length_controlled_v1"]["formula"]
COLUMNS = ["preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"]


def fits(rows, anchors, anchor_weight=0.2):
    """Weights and win rate of `rows` under each penalty, with and without `anchors`."""
    test = rows[["instruction_difficulty", "not_gamed_baseline"]].copy()
    test["std_delta_len"] = 0
    found = {}
    for name, with_anchors, splits, strength in [
        ("cross_validated", False, 5, None),
        ("cross_validated_anchored", True, 5, None),
        ("l1_strength_2", False, 0, 0.5),
        ("weak_l1", False, 0, 1e8),
    ]:
        if with_anchors and anchors is None:
            continue
        train = pandas.concat([anchors, rows], axis=0) if with_anchors else rows
        matrix, at_equal_lengths = make_dmatrix_for_model(train, test, formula=FORMULA)
        own = train["not_gamed_baseline"].astype(bool)
        weight = own.astype(float) + (~own).astype(float) * anchor_weight / 2 if with_anchors else None
        arguments = {} if strength is None else {"C": strength}
        # The public tool leaves liblinear's tolerance of 1e-4; a smaller one compares the models and not the solvers.
        model = fit_LogisticRegressionCV(
            matrix, "preference", sample_weight=weight, n_splits=splits, tol=1e-10, max_iter=100000, **arguments
        )
        found[name] = {
            "weights": model.coef_[0].tolist(),
            "strength": float(1 / (model.C_[0] if splits else strength)),
            "win_rate": float(model.predict_proba(at_equal_lengths)[:, 1].mean()),
        }
    return found


def seeded(seed, n, weights):
    random = numpy.random.default_rng(seed)
    difference = numpy.round(random.normal(200, 900, size=n))
    difficulty = numpy.round(random.normal(size=n), 6)
    scaled = difference / pandas.Series(difference).std()
    logit = weights[0] * numpy.tanh(scaled) + weights[1] * difficulty + weights[2]
    chance = 1 / (1 + numpy.exp(-logit - random.normal(0, 1.5, size=n)))
    rows = pandas.DataFrame(dict(zip(COLUMNS, [numpy.round(chance, 6), scaled, difficulty, True])))
    return difference, rows


if len(sys.argv) > 1:
    folder = pathlib.Path(sys.argv[1])
    difficulty = pandas.read_csv(folder / "instruction_difficulty.csv", index_col=0).squeeze()
    for file in sorted(folder.glob("annotations_*.json")):
        data = pandas.read_json(file)
        difference = data["output_1"].str.len() - data["output_2"].str.len()
        values = [data["preference"] - 1, difference / difference.std(), difficulty.to_numpy(), True]
        print(file.name, json.dumps(fits(pandas.DataFrame(dict(zip(COLUMNS, values))), None)))
else:
    cases = []
    # With more than about 250 rows numpy sorts equal group sizes in an order of its own, which deals out other folds.
    for seed, n, weights in [(1, 40, (-1.5, 0.8, 0.2)), (2, 60, (-0.4, 0.3, -1.6)), (3, 75, (-2.0, 1.0, 1.1))]:
        difference, rows = seeded(seed, n, weights)
        anchors = pandas.concat([seeded(seed + 10 * copy, n, (-1.6, 0.8, 0.0))[1] for copy in (1, 2)])
        anchors["not_gamed_baseline"] = False
        anchors["instruction_difficulty"] = numpy.tile(rows["instruction_difficulty"], 2)
        cases.append(
            {
                "preference": rows["preference"].tolist(),
                "shorter_by": difference.tolist(),
                "difficulty": rows["instruction_difficulty"].tolist(),
                "anchors": anchors[COLUMNS[:3]].round(9).to_numpy().tolist(),
                "fits": fits(rows, anchors.assign(std_delta_len=anchors["std_delta_len"].round(9))),
            }
        )
    versions = {"scikit-learn": sklearn.__version__, "pandas": pandas.__version__, "numpy": numpy.__version__}
    print(json.dumps({"versions": versions, "cases": cases}))
