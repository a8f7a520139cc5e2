"""Net wins: how much more a player won than lost, a tie being nothing."""

from battles import remarks, wins
from metareward import Plugin, types


class Ranker(Plugin):
    NAME = "{{name}}"
    SUMMARY = "net wins"
    OPTIONS = {
        "points": {
            "type": "number",
            "default": 1.0,
            "exclusiveMinimum": 0,
            "description": "Points for a win, taken from the loser.",
        },
    }

    def promises(self):
        return types.RankerPromises(ignores_order=True, mirrors_ratings=True, likelihood=None)

    def rate(self, problems):
        return [self._net_wins(wins(problem, item)) for item, problem in enumerate(problems)]

    def _net_wins(self, matrix):
        lost = [sum(column) for column in zip(*matrix)]
        ratings = [self.options["points"] * (sum(row) - less) for row, less in zip(matrix, lost)]
        return types.Rating(ratings, converged=True, steps=1, remarks=remarks(matrix))
