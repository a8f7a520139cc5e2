"""Win share: the part of a player's battles that it won, pulled towards a half where there are few."""

from battles import remarks, wins
from metareward import Plugin, types


class Ranker(Plugin):
    NAME = "win-share"
    SUMMARY = "share of battles won, pulled towards a half where there are few"
    OPTIONS = {
        "prior": {
            "type": "number",
            "default": 2.0,
            "minimum": 0,
            "description": "Battles that everyone is taken to have fought beforehand, half of them won.",
        },
    }

    def promises(self):
        return types.RankerPromises(ignores_order=True, mirrors_ratings=True, likelihood=None)

    def rate(self, problems):
        return [self._shares(wins(problem, item)) for item, problem in enumerate(problems)]

    def _shares(self, matrix):
        prior = self.options["prior"]
        ratings = []
        for player, row in enumerate(matrix):
            won = sum(row) + prior / 2
            fought = sum(row) + sum(other[player] for other in matrix) + prior
            ratings.append(won / fought if fought > 0 else 0.5)
        return types.Rating(ratings, converged=True, steps=1, remarks=remarks(matrix))
