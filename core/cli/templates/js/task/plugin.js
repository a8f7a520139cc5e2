/** Sums of two numbers below 100, with an oracle that knows them. */
import { Refusal, plugin } from "./metareward.js";

// All sums there are. Every second one is kept for examples, so that no prompt was seen with its answer.
const BELOW = 100;
const SUMS = (BELOW * BELOW) / 2;

const options = {
  question: {
    type: "string",
    default: "What is {sum}?",
    pattern: "\\{sum\\}",
    description: "What is asked, with {sum} in it.",
  },
};

export const task = plugin(
  { kind: "task", name: "{{name}}", version: "0.1.0", summary: "sums of two numbers below 100", options },
  {
    prompts(seed, n) {
      return pairs(seed, n, 0).map((pair) => this.prompt(pair));
    },

    demonstrations(seed, n) {
      return pairs(seed, n, 1).map(([a, b]) => ({ prompt: this.prompt([a, b]), response: `${a} + ${b} = ${a + b}` }));
    },

    judgeExamples(seed, n) {
      return pairs(seed, n, 1).map((pair, number) => ({ prompt: this.prompt(pair).text, ...judged(pair, number % 2 === 0) }));
    },

    metaExamples(seed, n) {
      return pairs(seed, n, 1).map((pair, number) => {
        const right = number % 3 === 0;
        const { response, judgment: careful } = judged(pair, right);
        const careless = `Looks good to me.\nScore: ${right ? 0 : 5}`;
        const [first, second, winner] = number % 2 === 0 ? [careful, careless, "A"] : [careless, careful, "B"];
        const verdict = `Judgment ${winner} adds up the numbers itself, the other one does not.\nWinner: ${winner}`;
        return { prompt: this.prompt(pair).text, response, first, second, verdict };
      });
    },

    oracle(answers) {
      return answers.map(points);
    },

    oracleScale() {
      return { min: 0, max: 5 };
    },

    perfectAnswers(prompts) {
      return prompts.map((prompt, item) => String(sum(prompt, item)));
    },

    prompt([a, b]) {
      const text = this.options.question.replaceAll("{sum}", `${a} + ${b}`);
      return { id: `sum-${a}-${b}`, text, system: null, category: "sums" };
    },
  },
);

/** Up to n different pairs. The same seed gives the same ones, and a longer list begins with the shorter one. */
function pairs(seed, n, part) {
  // A step without a common divisor with SUMS visits every sum once. A seed is a number here: of those beyond 2^53
  // the last digits are lost.
  const start = Number(seed) % SUMS;
  const step = [7, 11, 13, 17, 19, 23, 29, 31][Math.floor(Number(seed) / SUMS) % 8];
  return Array.from({ length: Math.min(n, SUMS) }, (_, number) => {
    const index = ((start + number * step) % SUMS) * 2 + part;
    return [Math.floor(index / BELOW), index % BELOW];
  });
}

function sum({ id }, item) {
  const found = id.match(/^sum-([0-9]{1,2})-([0-9]{1,2})$/);
  if (!found) throw new Refusal(`${id} is no prompt of this task`, item);
  return Number(found[1]) + Number(found[2]);
}

/** 5 for the sum as the last number of the answer, 3 where only a carry is wrong, else 0. */
function points({ prompt, response }, item) {
  const right = sum(prompt, item);
  const said = response.match(/[0-9]+/g)?.at(-1) ?? "";
  if (said === "") return 0;
  return { 0: 5, 10: 3 }[Math.abs(Number(said) - right)] ?? 0;
}

/** An answer and a judgment that is right about it. */
function judged([a, b], right) {
  const said = right ? a + b : a + b + 10;
  const verdict = right ? "That is right.\nScore: 5" : "Only a carry is wrong.\nScore: 3";
  return { response: `${a} + ${b} = ${said}`, judgment: `${a} and ${b} make ${a + b}; the answer says ${said}. ${verdict}` };
}
