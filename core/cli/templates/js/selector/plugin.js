/** The shortest of the best answers against the longest of the worst. */
import { Refusal, plugin } from "./metareward.js";

const options = {
  max_chosen_length: {
    type: ["integer", "null"],
    default: null,
    minimum: 1,
    description: "A pair whose chosen text has more characters than this is dropped; null keeps all.",
  },
};

export const selector = plugin(
  {
    kind: "selector",
    name: "{{name}}",
    version: "0.1.0",
    summary: "shortest of the best against longest of the worst",
    options,
  },
  {
    promises() {
      return { rho: 0, maxChosenLength: this.options.max_chosen_length, ignoresOrder: true };
    },

    lengthUnit() {
      return "characters";
    },

    select(groups) {
      return groups.map((group, item) => pair(group, item, this.options.max_chosen_length ?? Infinity));
    },
  },
);

function pair(group, item, limit) {
  if (!group.every(({ score }) => Number.isFinite(score))) throw new Refusal("a score that is not finite", item);
  if (group.length < 2) return none("too-few-candidates");
  // Of equals, the one that the seeded random number puts first.
  const random = (a, b) => Number(a.tieBreak > b.tieBreak) - Number(a.tieBreak < b.tieBreak);
  const first = (order) => group.indexOf([...group].sort(order)[0]);
  const chosen = first((a, b) => b.score - a.score || a.characters - b.characters || random(a, b));
  const rejected = first((a, b) => a.score - b.score || b.characters - a.characters || random(a, b));
  const [best, worst] = [group[chosen], group[rejected]];
  if (best.score === worst.score) return none("equal-scores");
  if (best.characters > limit) return none("chosen-too-long");
  return { tag: "ok", val: { chosen, rejected, chosenLength: best.characters, rejectedLength: worst.characters } };
}

function none(reason) {
  return { tag: "err", val: { tag: reason } };
}
