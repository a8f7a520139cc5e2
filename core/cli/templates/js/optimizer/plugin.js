/**
 * Direct preference optimization (Rafailov et al. 2023), with a margin that the chosen answer must lead by.
 *
 * The loss of a pair is −log σ(z), z = β·(chosen log-ratio − rejected log-ratio) − margin.
 */
import { Refusal, plugin } from "./metareward.js";

const options = {
  beta: {
    type: "number",
    default: 0.1,
    exclusiveMinimum: 0,
    description: "How strongly the policy is held to the reference.",
  },
  margin: {
    type: "number",
    default: 0.0,
    minimum: 0,
    description: "Reward by which the chosen answer must lead before the loss falls below ln 2.",
  },
};

export const optimizer = plugin(
  {
    kind: "optimizer",
    name: "{{name}}",
    version: "0.1.0",
    summary: "direct preference optimization with a margin",
    options,
  },
  {
    promises() {
      return { pullsApart: true };
    },

    needsReference() {
      return true;
    },

    lossAtStart() {
      return logistic(-this.options.margin).loss;
    },

    loss(pairs) {
      const { beta, margin } = this.options;
      const terms = pairs.map((pair, item) => {
        const chosen = beta * (pair.policyChosen - pair.referenceChosen);
        const rejected = beta * (pair.policyRejected - pair.referenceRejected);
        const z = chosen - rejected - margin;
        if (!Number.isFinite(z)) throw new Refusal("a log-probability that is not finite", item);
        const { loss, slope } = logistic(z);
        return { chosen, rejected, loss: pair.weight * loss, gradient: pair.weight * slope * beta };
      });
      return {
        losses: terms.map((term) => term.loss),
        chosenGradient: terms.map((term) => term.gradient),
        rejectedGradient: terms.map((term) => -term.gradient),
        chosenRewards: terms.map((term) => term.chosen),
        rejectedRewards: terms.map((term) => term.rejected),
        metrics: [],
      };
    },
  },
);

/** −log σ(z) and its derivative, for any z: exp is asked for no number above 0. */
function logistic(z) {
  const small = Math.exp(-Math.abs(z));
  const slope = z > 0 ? -small / (1 + small) : -1 / (1 + small);
  return { loss: Math.max(-z, 0) + Math.log1p(small), slope };
}
