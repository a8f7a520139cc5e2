"""The first answer to a prompt is the most probable one; the others are drawn."""

from metareward import Plugin, refusal, types


class Sampler(Plugin):
    NAME = "{{name}}"
    SUMMARY = "one greedy answer per prompt, the others drawn"
    OPTIONS = {
        "temperature": {
            "type": "number",
            "default": 0.8,
            "minimum": 0,
            "description": "Divides the logits of the answers that are drawn.",
        },
        "top_p": {
            "type": "number",
            "default": 0.95,
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "Keeps the smallest set of tokens whose probability reaches this.",
        },
        "max_tokens": {
            "type": "integer",
            "default": 1024,
            "minimum": 1,
            "description": "Longest answer in tokens.",
        },
    }

    def plan(self, items):
        return [[self._draw(number) for number in range(item.draws)] for item in items]

    def _draw(self, number):
        sampling = types.Sampling(
            temperature=0.0 if number == 0 else self.options["temperature"],
            top_p=self.options["top_p"],
            top_k=None,
            min_p=0.0,
            max_tokens=self.options["max_tokens"],
            stop=[],
        )
        return types.DrawPlan(sampling, seed_offset=0)

    def reshapes(self):
        return None

    def reshape(self, rows):
        raise refusal("this sampler has plans only")
