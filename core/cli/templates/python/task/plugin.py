"""Sums of two numbers below 100, with an oracle that knows them."""

import re

from metareward import Plugin, refusal, types

# All sums there are. Every second one is kept for examples, so that no prompt was seen with its answer.
BELOW = 100
SUMS = BELOW * BELOW // 2


class Task(Plugin):
    NAME = "{{name}}"
    SUMMARY = "sums of two numbers below 100"
    OPTIONS = {
        "question": {
            "type": "string",
            "default": "What is {sum}?",
            "pattern": r"\{sum\}",
            "description": "What is asked, with {sum} in it.",
        },
    }

    def prompts(self, seed, n):
        return [self._prompt(*pair) for pair in _pairs(seed, n, 0)]

    def demonstrations(self, seed, n):
        return [types.Demonstration(self._prompt(a, b), f"{a} + {b} = {a + b}") for a, b in _pairs(seed, n, 1)]

    def judge_examples(self, seed, n):
        examples = []
        for number, (a, b) in enumerate(_pairs(seed, n, 1)):
            response, judgment = _judged(a, b, right=number % 2 == 0)
            examples.append(types.JudgeExample(self._prompt(a, b).text, response, judgment))
        return examples

    def meta_examples(self, seed, n):
        examples = []
        for number, (a, b) in enumerate(_pairs(seed, n, 1)):
            response, careful = _judged(a, b, right=number % 3 == 0)
            careless = f"Looks good to me.\nScore: {0 if number % 3 == 0 else 5}"
            first, second, winner = (careful, careless, "A") if number % 2 == 0 else (careless, careful, "B")
            verdict = f"Judgment {winner} adds up the numbers itself, the other one does not.\nWinner: {winner}"
            examples.append(types.MetaExample(self._prompt(a, b).text, response, first, second, verdict))
        return examples

    def oracle(self, answers):
        return [_points(answer, item) for item, answer in enumerate(answers)]

    def oracle_scale(self):
        return types.ScoreScale(0.0, 5.0)

    def perfect_answers(self, prompts):
        return [str(sum(_numbers(prompt, item))) for item, prompt in enumerate(prompts)]

    def _prompt(self, a, b):
        text = self.options["question"].replace("{sum}", f"{a} + {b}")
        return types.Prompt(id=f"sum-{a}-{b}", text=text, system=None, category="sums")


def _pairs(seed, n, part):
    """Up to n different pairs. The same seed gives the same ones, and a longer list begins with the shorter one."""
    # A step without a common divisor with SUMS visits every sum once.
    start, step = seed % SUMS, (7, 11, 13, 17, 19, 23, 29, 31)[seed // SUMS % 8]
    for number in range(min(n, SUMS)):
        index = (start + number * step) % SUMS * 2 + part
        yield divmod(index, BELOW)


def _numbers(prompt, item):
    found = re.fullmatch(r"sum-([0-9]{1,2})-([0-9]{1,2})", prompt.id)
    if not found:
        raise refusal(f"{prompt.id} is no prompt of this task", item)
    return int(found[1]), int(found[2])


def _points(answer, item):
    """5 for the sum as the last number of the answer, 3 where only a carry is wrong, else 0."""
    right = sum(_numbers(answer.prompt, item))
    said = re.findall(r"[0-9]+", answer.response)
    if not said or len(said[-1]) > 6:
        return 0.0
    return {0: 5.0, 10: 3.0}.get(abs(int(said[-1]) - right), 0.0)


def _judged(a, b, right):
    """An answer and a judgment that is right about it."""
    said = a + b if right else a + b + 10
    verdict = "That is right.\nScore: 5" if right else "Only a carry is wrong.\nScore: 3"
    return f"{a} + {b} = {said}", f"{a} and {b} make {a + b}; the answer says {said}. {verdict}"
