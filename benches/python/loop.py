"""One iteration of Meta-Rewarding in Python, for loop.sh: transformers' generate and TRL's DPOTrainer.

The prompts, the templates, the model and the settings are those of a run of metareward, so both do the same work: K answers
to every prompt, N judgments of every distinct answer, both orders of every two judgments of the answer with the widest
scores, Elo ratings by maximum likelihood, preference pairs, and DPO. What Python gets to be fast: left padding, prompts sorted by
length, large batches (the best of several sizes, see results/), `num_return_sequences`, sdpa, `inference_mode`, no
dropout, an end at every answer's end-of-turn token, reference log-probabilities computed once, f32 on all threads.

    python loop.py --run RUN --model DIR --templates DIR --threads 2 --out result.json

Prints seconds per stage as JSON. Versions used: torch 2.11.0, transformers 4.57.6, trl 0.29.1.
"""

import argparse
import glob
import itertools
import json
import os
import random
import re
import statistics
import time

STARTED = time.time()

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True, help="our run: its prompts and settings of iteration 1")
parser.add_argument("--model", required=True)
parser.add_argument("--templates", required=True, help="judge.txt, criteria.txt and meta-judge.txt")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rows", type=int, default=192, help="answers generated at once")
parser.add_argument("--out", required=True)
parser.add_argument("--no-training", action="store_true")
options = parser.parse_args()

with open(os.path.join(options.run, "run.json"), encoding="utf-8") as file:
    config = json.load(file)["config"]
DRAWS, JUDGES = config["actor"]["responses"], config["judge"]["judgments"]
SAMPLING = {role: config["sampler"][role]["options"] for role in ("actor", "judge", "meta_judge")}
TRAIN = config["train"]

os.environ["OMP_NUM_THREADS"] = str(options.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(options.threads)
torch.manual_seed(1)
SECONDS = {"imports": time.time() - STARTED}


class stage:
    """Adds a stage's wall time to SECONDS."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.start = time.time()

    def __exit__(self, *_):
        SECONDS[self.name] = SECONDS.get(self.name, 0.0) + time.time() - self.start


with stage("load"):
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa").eval()

WRITTEN = {"read": 0, "written": 0}


@torch.inference_mode()
def answers(questions, each, role):
    """`each` answers to every question, in order, sampled as the run samples for `role`."""
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
        for q in questions
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    result = [None] * len(ids)
    per_batch = max(1, options.rows // each)
    for start in range(0, len(order), per_batch):
        batch = order[start : start + per_batch]
        padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
        out = model.generate(
            **padded,
            do_sample=True,
            temperature=SAMPLING[role]["temperature"],
            top_p=SAMPLING[role]["top_p"],
            top_k=0,
            max_new_tokens=SAMPLING[role]["max_tokens"],
            num_return_sequences=each,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = out[:, padded["input_ids"].shape[1] :]
        decoded = tokenizer.batch_decode(new, skip_special_tokens=True)
        WRITTEN["read"] += int(padded["attention_mask"].sum()) * each
        WRITTEN["written"] += int((new != tokenizer.pad_token_id).sum())
        for place, i in enumerate(batch):
            result[i] = decoded[place * each : (place + 1) * each]
    return result


def read(name):
    with open(os.path.join(options.templates, name), encoding="utf-8") as file:
        return file.read()


def render(template, **values):
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match.group(1)], template)


CRITERIA, JUDGE, META = read("criteria.txt"), read("judge.txt"), read("meta-judge.txt")
prompts = [
    json.loads(line)["text"]
    for shard in sorted(glob.glob(os.path.join(options.run, "iteration-1", "prompts", "*.jsonl")))
    for line in open(shard, encoding="utf-8")
]

with stage("responses"):
    responses = answers(prompts, DRAWS, "actor")

with stage("judgments"):
    judged = [(p, r) for p, texts in enumerate(responses) for r in dict.fromkeys(texts)]
    asked = [render(JUDGE, criteria=CRITERIA, prompt=prompts[p], response=r) for p, r in judged]
    judgments = answers(asked, JUDGES, "judge")


def score(text):
    found = re.findall(r"^score (\d)\s*$", text, re.M)
    return int(found[-1]) if found and int(found[-1]) <= 5 else None


with stage("verdicts"):
    scores = [[score(text) for text in texts] for texts in judgments]
    widest = {}
    for index, (p, _) in enumerate(judged):
        valid = [s for s in scores[index] if s is not None]
        spread = statistics.pvariance(valid) if len(valid) > 1 else -1.0
        if p not in widest or spread > widest[p][0]:
            widest[p] = (spread, index)
    matches, asked = [], []
    for p, (_, index) in widest.items():
        valid = [d for d, s in enumerate(scores[index]) if s is not None]
        for a, b in itertools.permutations(valid, 2):
            matches.append((p, a, b))
            values = dict(prompt=prompts[p], response=judged[index][1])
            values |= dict(first=judgments[index][a], second=judgments[index][b])
            asked.append(render(META, criteria=CRITERIA, **values))
    verdicts = [texts[0] for texts in answers(asked, 1, "meta_judge")]

with stage("pairs"):
    battles = {}
    for (p, a, b), text in zip(matches, verdicts):
        found = re.findall(r"^winner (A|B|tie)\s*$", text, re.M | re.I)
        if found:
            first, second = {"a": (1, 0), "b": (0, 1), "tie": (0.5, 0.5)}[found[-1].lower()]
            table = battles.setdefault(p, torch.zeros(JUDGES, JUDGES, dtype=torch.double))
            table[a, b] += first
            table[b, a] += second

    def ratings(table):
        """Bradley-Terry by Newton's method with a little ridge, so that the undefeated stay finite."""
        theta, games = torch.zeros(len(table), dtype=torch.double), table + table.T
        for _ in range(50):
            win = torch.sigmoid(theta[:, None] - theta[None, :])
            gradient = table.sum(1) - (games * win).sum(1) - 0.01 * theta
            curve = games * win * (1 - win)
            hessian = torch.diag(curve.sum(1) + 0.01) - curve
            step = torch.linalg.solve(hessian, gradient)
            theta = theta + step
            if step.abs().max() < 1e-9:
                break
        return theta

    pairs = []
    by_prompt = {}
    for index, (p, text) in enumerate(judged):
        valid = [s for s in scores[index] if s is not None]
        if valid:
            by_prompt.setdefault(p, []).append((sum(valid) / len(valid), len(text.split()), text))
    user = lambda text: [{"role": "user", "content": text}]  # noqa: E731
    model_says = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    for p, candidates in by_prompt.items():
        best, worst = max(c[0] for c in candidates), min(c[0] for c in candidates)
        if best > worst:
            chosen = min((c for c in candidates if c[0] == best), key=lambda c: c[1])[2]
            rejected = max((c for c in candidates if c[0] == worst), key=lambda c: c[1])[2]
            pairs.append((prompts[p], chosen, rejected))
    judge_pairs = []
    for p, table in battles.items():
        rated, index = ratings(table), widest[p][1]
        chosen, rejected = judgments[index][int(rated.argmax())], judgments[index][int(rated.argmin())]
        if chosen != rejected:
            question = render(JUDGE, criteria=CRITERIA, prompt=prompts[p], response=judged[index][1])
            judge_pairs.append((question, chosen, rejected))
    # A batch takes so many judge pairs; surplus ones sit out an epoch there, and here altogether: as many are trained on.
    batch, share = TRAIN["batch_size"], config["pairs"]["judge_share"]
    if share < 1 and pairs:
        most = int(share * batch)
        random.Random(1).shuffle(judge_pairs)
        judge_pairs = judge_pairs[: round(len(pairs) * most / (batch - most))]
    pairs += judge_pairs

report = {"prompts": len(prompts), "judgments": len(judged) * JUDGES, "verdicts": len(asked), "pairs": len(pairs)}
report |= {"tokens": WRITTEN, "readable": sum(s is not None for texts in scores for s in texts)}

if not options.no_training:
    with stage("imports"):
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

    with stage("training"):
        data = Dataset.from_list(
            [dict(prompt=user(q), chosen=model_says(c), rejected=model_says(r)) for q, c, r in pairs]
        )
        trainer = DPOTrainer(
            model=model.train(),
            args=DPOConfig(
                output_dir=options.out + ".trainer",
                per_device_train_batch_size=TRAIN["batch_size"],
                num_train_epochs=TRAIN["epochs"],
                learning_rate=TRAIN["learning_rate"],
                lr_scheduler_type=TRAIN["lr_schedule"],
                beta=config["optimizer"]["options"]["beta"],
                max_length=TRAIN["max_length"],
                precompute_ref_log_probs=True,
                precompute_ref_batch_size=TRAIN["batch_size"],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                save_strategy="no",
                logging_steps=1000,
                report_to=[],
                disable_tqdm=True,
                dataloader_num_workers=0,
                group_by_length=False,
            ),
            train_dataset=data,
            processing_class=tokenizer,
        )
        trainer.train()
        model.save_pretrained(options.out + ".model")

SECONDS["whole process"] = time.time() - STARTED
report["seconds"] = {name: round(seconds, 2) for name, seconds in SECONDS.items()}
with open(options.out, "w", encoding="utf-8") as file:
    json.dump(report, file, indent=1)
print(json.dumps(report))
