"""The shortest of the best answers against the longest of the worst."""

import math

from metareward import Err, Ok, Plugin, refusal, types


class Selector(Plugin):
    NAME = "{{name}}"
    SUMMARY = "shortest of the best against longest of the worst"
    OPTIONS = {
        "max_chosen_length": {
            "type": ["integer", "null"],
            "default": None,
            "minimum": 1,
            "description": "A pair whose chosen text has more characters than this is dropped; null keeps all.",
        },
    }

    def promises(self):
        return types.SelectorPromises(
            rho=0.0, max_chosen_length=self.options["max_chosen_length"], ignores_order=True
        )

    def length_unit(self):
        return "characters"

    def select(self, groups):
        return [self._pair(group, item) for item, group in enumerate(groups)]

    def _pair(self, group, item):
        if not all(math.isfinite(candidate.score) for candidate in group):
            raise refusal("a score that is not finite", item)
        if len(group) < 2:
            return Err(types.NoPair_TooFewCandidates())
        # Of equals, the one that the seeded random number puts first.
        best = min(group, key=lambda one: (-one.score, one.characters, one.tie_break))
        worst = min(group, key=lambda one: (one.score, -one.characters, one.tie_break))
        if best.score == worst.score:
            return Err(types.NoPair_EqualScores())
        limit = self.options["max_chosen_length"]
        if limit is not None and best.characters > limit:
            return Err(types.NoPair_ChosenTooLong())
        places = group.index(best), group.index(worst)
        return Ok(types.Selection(*places, chosen_length=best.characters, rejected_length=worst.characters))
