"""A Llama folder with random weights: python random_llama.py FROM TO --size 8b|1b|tiny --dtype bfloat16.

Takes tokenizer and conversations from the folder FROM, which `judging_speed make` wrote; the shape is that of Llama 3.1 8B or
Llama 3.2 1B, vocabulary included. The weights are normal with the deviation of the original's initialisation.
"""

import argparse
import json
import os
import shutil

import torch
from transformers import LlamaConfig, LlamaForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("target")
parser.add_argument("--size", default="8b")
parser.add_argument("--dtype", default="bfloat16")
options = parser.parse_args()

SHAPES = {
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, vocab_size=128256),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, vocab_size=128256),
    "tiny": dict(hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=8),
}
known = json.load(open(os.path.join(options.source, "config.json"), encoding="utf-8"))
shape = {"vocab_size": known["vocab_size"], **SHAPES[options.size]}
config = LlamaConfig(
    num_key_value_heads=8 if options.size != "tiny" else 2,
    head_dim=shape["hidden_size"] // shape["num_attention_heads"],
    max_position_embeddings=8192,
    rope_theta=500000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=options.size == "1b",
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
    **shape,
)
torch.manual_seed(1)
torch.set_default_dtype(getattr(torch, options.dtype))
with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
    model = LlamaForCausalLM(config)
model.save_pretrained(options.target)
for name in ["tokenizer.json", "tokenizer_config.json", "conversations.jsonl"]:
    shutil.copy(os.path.join(options.source, name), options.target)
print(sum(p.numel() for p in model.parameters()), "parameters")
