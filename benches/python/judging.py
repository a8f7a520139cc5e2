"""The same judgments as core/torch/examples/judging_speed.rs, by transformers' generate with num_return_sequences.

    python judging.py FOLDER --threads 2 --rows 88 --draws 11 --tokens 48 [--dtype bfloat16] [--device cuda]

Reads FOLDER/conversations.jsonl and prints a line of JSON. Left padding, prompts of like length together, sdpa,
inference_mode; `--rows` is the number of answers written at once: judging.sh tries several and takes the best.
"""

import argparse
import json
import os
import resource
import time

started = time.time()
parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rows", type=int, default=88)
parser.add_argument("--draws", type=int, default=11)
parser.add_argument("--tokens", type=int, default=48)
parser.add_argument("--dtype", default="float32")
parser.add_argument("--device", default="cpu")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(options.threads)
torch.manual_seed(1)
imported = time.time()
tokenizer = AutoTokenizer.from_pretrained(options.folder, padding_side="left")
model = AutoModelForCausalLM.from_pretrained(
    options.folder, dtype=getattr(torch, options.dtype), attn_implementation="sdpa"
)
model = model.eval().to(options.device)
loaded = time.time()

with open(os.path.join(options.folder, "conversations.jsonl"), encoding="utf-8") as file:
    texts = [json.loads(line)["text"] for line in file]
texts = [
    tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
    for text in texts
]
ids = sorted(tokenizer(texts, add_special_tokens=False)["input_ids"], key=len)


@torch.inference_mode()
def answer(batch, tokens):
    padded = tokenizer.pad({"input_ids": batch}, return_tensors="pt").to(options.device)
    out = model.generate(
        **padded,
        do_sample=True,
        temperature=0.7,
        top_p=0.95,
        top_k=0,
        max_new_tokens=tokens,
        num_return_sequences=options.draws,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = out[:, padded["input_ids"].shape[1] :]
    tokenizer.batch_decode(new, skip_special_tokens=True)
    return int((new != tokenizer.pad_token_id).sum())


answer(ids[:1], 4)
per_batch = max(1, options.rows // options.draws)
start, before = time.time(), resource.getrusage(resource.RUSAGE_SELF)
written = sum(answer(ids[at : at + per_batch], options.tokens) for at in range(0, len(ids), per_batch))
seconds, after = time.time() - start, resource.getrusage(resource.RUSAGE_SELF)
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "dtype": options.dtype,
            "rows": options.rows,
            "import_seconds": imported - started,
            "load_seconds": loaded - imported,
            "seconds": seconds,
            "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "prompt_tokens": options.draws * sum(map(len, ids)),
            "answer_tokens": written,
            "answer_tokens_per_second": written / seconds,
        }
    )
)
