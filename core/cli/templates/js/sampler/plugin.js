/** The first answer to a prompt is the most probable one; the others are drawn. */
import { Refusal, plugin } from "./metareward.js";

const options = {
  temperature: {
    type: "number",
    default: 0.8,
    minimum: 0,
    description: "Divides the logits of the answers that are drawn.",
  },
  top_p: {
    type: "number",
    default: 0.95,
    exclusiveMinimum: 0,
    maximum: 1,
    description: "Keeps the smallest set of tokens whose probability reaches this.",
  },
  max_tokens: { type: "integer", default: 1024, minimum: 1, description: "Longest answer in tokens." },
};

export const sampler = plugin(
  {
    kind: "sampler",
    name: "{{name}}",
    version: "0.1.0",
    summary: "one greedy answer per prompt, the others drawn",
    options,
  },
  {
    plan(items) {
      const { temperature, top_p: topP, max_tokens: maxTokens } = this.options;
      const draw = (_, number) => ({
        sampling: { temperature: number === 0 ? 0 : temperature, topP, topK: null, minP: 0, maxTokens, stop: [] },
        seedOffset: 0,
      });
      return items.map(({ draws }) => Array.from({ length: draws }, draw));
    },

    reshapes() {
      return null;
    },

    reshape() {
      throw new Refusal("this sampler has plans only");
    },
  },
);
