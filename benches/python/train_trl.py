"""DPO against TRL on the same model and pairs, in turns: tokens per second and peak memory as ratios.

    cargo build --release -p metareward-torch --example training_speed
    python train_trl.py --ours target/release/examples/training_speed --pairs actor --annotations FILE.json \
        --tokenizer DIR --size 20m --rounds 3

`--annotations` is a file of AlpacaEval annotations (instruction, output_1, output_2): real questions with real answers of real
lengths. `actor` makes pairs of them as they are, `judge` puts a rubric, the question and an answer into the prompt and two
short judgments after it. `--pairs FILE.jsonl` takes pairs of one's own (prompt, chosen, rejected), for instance a run's,
with `--model DIR` its model. The weights are random: nothing about speed depends on them.

TRL gets what makes it fast on a CPU: f32 on all cores, sdpa, reference log-probabilities computed once beforehand, no
dropout, no evaluation, sequences grouped by length, the fused AdamW, and the best of several batch sizes
(gradients accumulate to the same pairs per step). Each measurement is a process of its own. On a machine that others use,
compare processor seconds with --threads 1: libtorch's threads wait for each other at every operation, and a thread that the
system has put aside makes the others wait long. Versions used: torch 2.11.0,
transformers 4.57.6, trl 0.29.1.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--ours", help="the built example training_speed")
parser.add_argument("--pairs", default="actor", help="actor, judge or a file")
parser.add_argument("--annotations")
parser.add_argument("--tokenizer", help="folder with tokenizer and chat template")
parser.add_argument("--model", help="model folder; made from --size and --tokenizer where there is none")
parser.add_argument("--size", default="20m")
parser.add_argument("--count", type=int, default=64, help="pairs")
parser.add_argument("--batch", type=int, default=32, help="pairs per optimizer step")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--max-length", type=int, default=1024)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device-batches", default="2,4,8", help="pairs per forward pass that TRL may choose from")
parser.add_argument("--micro", type=int, default=8192, help="our micro_batch_tokens")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--trl", type=int, help="measure TRL alone, with so many pairs per forward pass")
options = parser.parse_args()

SIZES = {
    "10m": dict(hidden_size=320, intermediate_size=864, num_hidden_layers=6, num_attention_heads=5, num_key_value_heads=5),
    "20m": dict(hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=6),
    "50m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=10, num_attention_heads=9, num_key_value_heads=9),
}
RUBRIC = (
    "Review the user's question and the response below on a scale of five points, given one after the other. Give one point "
    "if the response is relevant and has some information on what was asked, even if it is incomplete. Give another point if "
    "it covers a good part of the question without answering it in full. Give a third point if it answers the basic parts of "
    "the question in a useful way, whoever seems to have written it. Give a fourth point if it is clearly written from an "
    "assistant's point of view, takes up the question directly and in full, and is well organised and helpful, with a little "
    "room to be clearer, shorter or better aimed. Give the fifth point if it is made for the question by an expert, without "
    "anything beside the point, and shows insight. "
)


def questions():
    with open(options.annotations, encoding="utf-8") as file:
        return json.load(file)[: options.count]


def write_pairs(path):
    with open(path, "w", encoding="utf-8") as file:
        for found in questions():
            pair = dict(prompt=found["instruction"], chosen=found["output_2"], rejected=found["output_1"])
            if options.pairs == "judge":
                pair["prompt"] = f"{RUBRIC}\nQuestion: {found['instruction']}\nResponse: {found['output_2']}\nSay why, then the score."
                pair["chosen"] = "The response " + " ".join(found["output_2"].split()[:60]) + "\nScore: 4"
                pair["rejected"] = "The response " + " ".join(found["output_1"].split()[:60]) + "\nScore: 2"
            file.write(json.dumps(pair) + "\n")


def make_model(folder):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=2048, tie_word_embeddings=False, rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **SIZES[options.size],
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def trl():
    """Trains with TRL in this process and prints what it took."""
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa")
    turn = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    with open(options.pairs, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    data = Dataset.from_list(
        [dict(prompt=turn("user", r["prompt"]), chosen=turn("assistant", r["chosen"]), rejected=turn("assistant", r["rejected"])) for r in rows]
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                output_dir=folder, per_device_train_batch_size=options.trl,
                gradient_accumulation_steps=options.batch // options.trl, num_train_epochs=options.epochs,
                learning_rate=2e-5, lr_scheduler_type="cosine", beta=0.1, max_length=options.max_length,
                precompute_ref_log_probs=True, precompute_ref_batch_size=options.trl, use_cpu=True, bf16=False,
                gradient_checkpointing=False, save_strategy="no", logging_steps=1000, report_to=[], disable_tqdm=True,
                dataloader_num_workers=0, optim="adamw_torch_fused",
            ),
            train_dataset=data,
            processing_class=tokenizer,
        )
        reference, processor = time.time(), time.process_time()
        trainer.get_train_dataloader()
        started = time.time()
        trainer.train()
        seconds, processor = time.time() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(reference_seconds=started - reference, training_seconds=seconds, processor_seconds=processor, peak_bytes=peak)))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    with tempfile.TemporaryDirectory() as folder:
        pairs, model = os.path.join(folder, "pairs.jsonl"), options.model
        if os.path.exists(options.pairs):
            pairs = options.pairs
        else:
            write_pairs(pairs)
        if model is None:
            model = os.path.join(folder, "model")
            make_model(model)
        common = ["--model", model, "--pairs", pairs, "--batch", str(options.batch), "--epochs", str(options.epochs)]
        common += ["--max-length", str(options.max_length), "--threads", str(options.threads)]
        theirs = lambda size: run([sys.executable, __file__, *common, "--trl", str(size)])  # noqa: E731
        ours = lambda: run(  # noqa: E731
            [options.ours, model, pairs, f"epochs={options.epochs}", f"batch={options.batch}", f"micro={options.micro}"]
            + [f"threads={options.threads}", f"max_length={options.max_length}"]
        )
        sizes = [int(size) for size in options.device_batches.split(",")]
        best = min(sizes, key=lambda size: theirs(size)["training_seconds"]) if len(sizes) > 1 else sizes[0]
        rounds = [(ours(), theirs(best)) for _ in range(options.rounds)]
        tokens = rounds[0][0]["tokens"]
        print(f"{tokens} tokens; TRL with {best} pairs per forward pass; {options.rounds} rounds in turns")
        for name, of in [("ours", [r[0] for r in rounds]), ("TRL", [r[1] for r in rounds])]:
            speed = [tokens / r["training_seconds"] for r in of]
            peak = max(r["peak_bytes"] for r in of) / 1e6
            reference = statistics.median(r["reference_seconds"] for r in of)
            print(
                f"{name}: {statistics.median(speed):.0f} tokens/s ({min(speed):.0f} to {max(speed):.0f}), reference "
                f"{reference:.2f} s, peak {peak:.0f} MB"
            )
        ratio = [t["training_seconds"] / o["training_seconds"] for o, t in rounds]
        whole = [
            (t["training_seconds"] + t["reference_seconds"]) / (o["training_seconds"] + o["reference_seconds"])
            for o, t in rounds
        ]
        processor = [t["processor_seconds"] / o["processor_seconds"] for o, t in rounds]
        memory = [o["peak_bytes"] / t["peak_bytes"] for o, t in rounds]
        print(
            f"speed {statistics.median(ratio):.2f}× TRL ({min(ratio):.2f} to {max(ratio):.2f}), with reference "
            f"{statistics.median(whole):.2f}×, per processor second {statistics.median(processor):.2f}×, memory {statistics.median(memory):.2f}× TRL"
        )


if options.trl:
    trl()
else:
    main()
