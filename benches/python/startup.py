"""For startup.sh: makes a model folder of 1 GB, answers a question with transformers, compares the times."""

import json
import os
import shutil
import statistics
import sys
import time


def make(folder, small):
    """A random Llama of 250 million parameters in f32, with the small model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = json.load(open(os.path.join(small, "config.json"), encoding="utf-8"))
    keep = {key: config[key] for key in ["vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"]}
    shape = dict(hidden_size=1536, intermediate_size=4096, num_hidden_layers=10, num_attention_heads=24)
    config = LlamaConfig(num_key_value_heads=8, head_dim=64, max_position_embeddings=512, **shape, **keep)
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(os.path.join(small, name), folder)


def answer(folder):
    """Prints seconds of importing, of loading, and to the first token."""
    started = time.time()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    imported = time.time()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    loaded = time.time()
    question = [{"role": "user", "content": "sort : fig"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(ids, do_sample=False, max_new_tokens=1, pad_token_id=2)
    tokenizer.decode(out[0])
    print(round(imported - started, 3), round(loaded - imported, 3), round(time.time() - loaded, 3))


def compare(path):
    """Medians and ratios."""
    rows = {}
    for line in open(path, encoding="utf-8"):
        name, a, b, c, imports, load, first = line.split()
        name = "process to first answer, 3 MB" if name == "seed-model" else "process to first token, 1 GB"
        ours, python = float(b) - float(a), float(c) - float(b)
        rows.setdefault(name, []).append((ours, python, float(imports), float(load) + float(first)))
    for name, times in rows.items():
        ours, python, imports, rest = map(statistics.median, zip(*times))
        ratios = sorted(p / o for o, p, *_ in times)
        print(
            f"{name}: ours {ours:.2f} s, transformers {python:.2f} s (imports {imports:.2f}, load and first token {rest:.2f}), "
            f"ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}); without imports {rest / ours:.1f}"
        )


if __name__ == "__main__":
    {"make": make, "answer": answer, "compare": compare}[sys.argv[1]](*sys.argv[2:])
