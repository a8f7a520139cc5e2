"""Makes reference.json: rank correlations by scipy and quantiles by numpy on seeded data, ties included.

Run with scipy 1.17.1 and numpy 2.4.6: `python reference.py > reference.json`.
"""

import json

import numpy
import scipy
from scipy.stats import kendalltau, spearmanr

random = numpy.random.default_rng(20240728)
cases = []
for n, levels in [(2, 0), (3, 0), (5, 3), (10, 0), (11, 5), (40, 6), (100, 0), (300, 11), (300, 2)]:
    x = random.normal(size=n)
    y = 0.5 * x + random.normal(size=n)
    if levels:  # round to a few levels, which makes ties
        x, y = (numpy.round(numpy.clip(v * levels / 4, -levels, levels)) for v in (x, y))
    quantiles = [(q, float(numpy.quantile(x, q))) for q in (0.0, 0.025, 0.25, 0.5, 0.9, 0.975, 1.0)]
    cases.append(
        {
            "x": x.tolist(),
            "y": y.tolist(),
            "spearman": float(spearmanr(x, y).statistic),
            "kendall": float(kendalltau(x, y, variant="b").statistic),
            "quantiles": quantiles,
        }
    )
versions = {"scipy": scipy.__version__, "numpy": numpy.__version__}
print(json.dumps({"versions": versions, "cases": cases}))
