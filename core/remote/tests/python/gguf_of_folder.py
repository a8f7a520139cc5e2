"""Writes a small Llama folder as a GGUF file in f32.

    python gguf_of_folder.py FOLDER FILE

Made and tried with gguf 0.19.0 and safetensors 0.5 or newer."""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

folder, target = Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text())
tokenizer = json.loads((folder / "tokenizer.json").read_text())
weights = load_file(folder / "model.safetensors")
heads, key_heads, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

writer = gguf.GGUFWriter(target, "llama")
writer.add_name("tiny")
writer.add_file_type(gguf.LlamaFileType.ALL_F32)
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(key_heads)
writer.add_key_length(width)
writer.add_value_length(width)
writer.add_rope_dimension_count(width)
writer.add_rope_freq_base(config["rope_theta"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_vocab_size(config["vocab_size"])

special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
tokens = {number: token for token, number in tokenizer["model"]["vocab"].items()} | special
names = [tokens.get(number, f"<|unused{number}|>") for number in range(config["vocab_size"])]
kinds = [
    gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL if number in tokens else gguf.TokenType.UNUSED
    for number in range(config["vocab_size"])
]
merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
# A vocabulary of whole words has no merges, and the format wants one; prompts for such a model go as token ids.
merges = merges or ["! !"]
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(names)
writer.add_token_types(kinds)
writer.add_token_merges(merges)
writer.add_bos_token_id(config["bos_token_id"])
ends_of_turn = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
if isinstance(ends_of_turn, int):
    ends_of_turn = [ends_of_turn]
writer.add_eos_token_id(ends_of_turn[0])
if len(ends_of_turn) > 1:
    writer.add_eot_token_id(ends_of_turn[1])
writer.add_pad_token_id(config["pad_token_id"])
# The template writes it.
writer.add_add_bos_token(False)
template = folder / "chat_template.jinja"
if template.exists():
    writer.add_chat_template(template.read_text())
else:
    writer.add_chat_template(json.loads((folder / "tokenizer_config.json").read_text())["chat_template"])


def interleaved(tensor, count):
    """Rotary halves as pairs, which is how this format has them."""
    shape = tensor.shape
    return tensor.reshape(count, 2, shape[0] // count // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


parts = {
    "self_attn.q_proj": ("attn_q", heads),
    "self_attn.k_proj": ("attn_k", key_heads),
    "self_attn.v_proj": ("attn_v", None),
    "self_attn.o_proj": ("attn_output", None),
    "mlp.gate_proj": ("ffn_gate", None),
    "mlp.up_proj": ("ffn_up", None),
    "mlp.down_proj": ("ffn_down", None),
    "input_layernorm": ("attn_norm", None),
    "post_attention_layernorm": ("ffn_norm", None),
}
ends = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
for name, tensor in sorted(weights.items()):
    if name in ends:
        writer.add_tensor(ends[name], tensor.astype(np.float32))
        continue
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    short, count = parts[part]
    tensor = tensor.astype(np.float32)
    writer.add_tensor(f"blk.{layer}.{short}.{kind}", np.ascontiguousarray(interleaved(tensor, count) if count else tensor))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
