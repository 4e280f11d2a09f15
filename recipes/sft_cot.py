"""Fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/sft_cot.py \\
        --config recipes/configs/sft_cot/qwen2.5-0.5b-110k.yaml
    torchrun --nproc_per_node 2 recipes/sft_cot.py --config FILE.yaml --use_cpu true

The YAML holds any argument of the classes below, of `CoTSFTConfig` (TRL's `SFTConfig` and more) and of TRL's
`ModelConfig` (LoRA, quantisation); the command line overrides it. A run that was stopped goes on by itself.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason.data import load_cot_sft_dataset
from hf_reason.runs import (
    EvaluationArguments,
    ScratchArguments,
    finish,
    generation_eval,
    last_checkpoint,
    load_model_and_tokenizer,
    one_line_errors,
)
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.launch import check_world_size


@dataclass
class DataArguments:
    dataset: str | None = field(
        default=None, metadata={"help": "Prepared folder or Hub data set. Default: the built-in sample."}
    )
    domain: str = field(default="all", metadata={"help": "One domain, or all."})
    max_train_records: int | None = field(default=None, metadata={"help": "Only the first records of the split."})
    thinking: bool = field(default=True, metadata={"help": "False: train on the answers without their thoughts."})
    expected_world_size: int | None = field(
        default=None, metadata={"help": "Number of processes that must train together; another one is an error."}
    )


def load_split(data: DataArguments, split: str, limit: int | None = None):
    records = load_cot_sft_dataset(data.domain, split, data.dataset)
    return records.select(range(min(limit or len(records), len(records))))


def main() -> None:
    parser = TrlParser((DataArguments, ScratchArguments, EvaluationArguments, CoTSFTConfig, ModelConfig))  # type: ignore[arg-type]
    data, scratch, evaluation, args, model_args = parser.parse_args_and_config()
    check_world_size(data.expected_world_size)
    with args.main_process_first(desc="loading the data set"):
        train, validation = load_split(data, "train", data.max_train_records), load_split(data, "validation")
        test = load_split(data, "test")
    model, tokenizer = load_model_and_tokenizer(model_args, scratch, args, train)
    if not data.thinking:
        train, validation = (split.map(lambda record: {"steps": []}) for split in (train, validation))
    trainer = CoTSFTTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation if args.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        generation_eval=generation_eval(load_split(data, "validation"), tokenizer, evaluation, data.thinking),
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or last_checkpoint(args.output_dir))
    template = Path(__file__).parents[1] / "model_cards" / "template.md"
    report = Path(data.dataset, "report.json") if data.dataset and os.path.isdir(data.dataset) else None
    finish(
        trainer, test, evaluation, template=template, data_report=report, base_model=model_args.model_name_or_path,
        thinking=data.thinking, dataset_name=data.dataset if report is None else None,
    )  # fmt: skip


if __name__ == "__main__":
    with one_line_errors():
        main()
