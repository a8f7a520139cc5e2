"""Trains on the preference pairs of iteration @ITERATION@ of @RUN@ with TRL's DPOTrainer.

    accelerate launch @FILE@ --model MODEL --output OUT

The settings are the run's own. MODEL is the model that made the pairs: @PARENT@ in the run. TRL fits its batches
differently and draws another order, so the outcome is alike and not equal. Needs trl, transformers, datasets and
accelerate; written for trl 0.29.
"""

import argparse
from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="model folder or id to start from; also the reference")
    parser.add_argument("--output", required=True, help="folder for checkpoints")
    parser.add_argument("--data", default=str(HERE / @DATA@), help="the pairs")
    parser.add_argument("--per-device-batch-size", type=int, default=@MICRO_BATCH@)
    parser.add_argument("--devices", type=int, default=1, help="processes that accelerate starts")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early; -1 trains all epochs")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()

    batch_size = @BATCH_SIZE@
    per_step = arguments.per_device_batch_size * arguments.devices
    config = DPOConfig(
        output_dir=arguments.output,
        loss_type=@LOSS_TYPE@,
        beta=@BETA@,
        label_smoothing=@LABEL_SMOOTHING@,
        learning_rate=@LEARNING_RATE@,
        lr_scheduler_type=@LR_SCHEDULE@,
        warmup_ratio=@WARMUP_RATIO@,
        num_train_epochs=@EPOCHS@,
        max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.per_device_batch_size,
        gradient_accumulation_steps=max(1, batch_size // per_step),
        max_grad_norm=@MAX_GRAD_NORM@,
        weight_decay=@WEIGHT_DECAY@,
        adam_beta1=@ADAM_BETA1@,
        adam_beta2=@ADAM_BETA2@,
        adam_epsilon=@ADAM_EPSILON@,
        max_length=@MAX_LENGTH@,
        gradient_checkpointing=@CHECKPOINTING@,
        bf16=arguments.bf16,
        seed=@SEED@,
        # The run keeps: @KEEP@.
        save_strategy="epoch",
        logging_steps=1,
        report_to="none",
    )
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = load_dataset("json", data_files=arguments.data, split="train")
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(arguments.model),
        args=config,
        # Scores and where a pair comes from are for people; the trainer takes the three texts.
        train_dataset=data.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(arguments.output)
    tokenizer.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
