"""Direct preference optimization (Rafailov et al. 2023), with a margin that the chosen answer must lead by.

The loss of a pair is −log σ(z), z = β·(chosen log-ratio − rejected log-ratio) − margin.
"""

import math

from metareward import Plugin, refusal, types


class Optimizer(Plugin):
    NAME = "{{name}}"
    SUMMARY = "direct preference optimization with a margin"
    OPTIONS = {
        "beta": {
            "type": "number",
            "default": 0.1,
            "exclusiveMinimum": 0,
            "description": "How strongly the policy is held to the reference.",
        },
        "margin": {
            "type": "number",
            "default": 0.0,
            "minimum": 0,
            "description": "Reward by which the chosen answer must lead before the loss falls below ln 2.",
        },
    }

    def promises(self):
        return types.OptimizerPromises(pulls_apart=True)

    def needs_reference(self):
        return True

    def loss_at_start(self):
        return _loss(-self.options["margin"])[0]

    def loss(self, pairs):
        beta, margin = self.options["beta"], self.options["margin"]
        losses, gradients, chosen, rejected = [], [], [], []
        for item, pair in enumerate(pairs):
            chosen.append(beta * (pair.policy_chosen - pair.reference_chosen))
            rejected.append(beta * (pair.policy_rejected - pair.reference_rejected))
            z = chosen[-1] - rejected[-1] - margin
            if not math.isfinite(z):
                raise refusal("a log-probability that is not finite", item)
            loss, slope = _loss(z)
            losses.append(pair.weight * loss)
            gradients.append(pair.weight * slope * beta)
        return types.PreferenceLoss(
            losses=losses,
            chosen_gradient=gradients,
            rejected_gradient=[-gradient for gradient in gradients],
            chosen_rewards=chosen,
            rejected_rewards=rejected,
            metrics=[],
        )


def _loss(z):
    """−log σ(z) and its derivative, for any z: exp is asked for no number above 0."""
    small = math.exp(-abs(z))
    slope = -small / (1 + small) if z > 0 else -1 / (1 + small)
    return max(-z, 0.0) + math.log1p(small), slope
