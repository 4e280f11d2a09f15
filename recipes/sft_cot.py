"""Fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/sft_cot.py \\
        --config recipes/configs/sft_cot/qwen2.5-0.5b-110k.yaml
    torchrun --nproc_per_node 2 recipes/sft_cot.py --config FILE.yaml --use_cpu true

The YAML holds any argument of the classes below, of `CoTSFTConfig` (TRL's `SFTConfig` and more) and of TRL's
`ModelConfig` (LoRA, quantisation); the command line overrides it. A run that was stopped goes on by itself.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import runs
from hf_reason.data import DataError, load_cot_sft_dataset
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.launch import check_world_size

TEMPLATE = Path(__file__).parents[1] / "model_cards" / "template.md"


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


def load_split(data: DataArguments, split: str, needed: bool = True):
    try:
        return load_cot_sft_dataset(data.domain, split, data.dataset)
    except DataError as error:
        if needed:
            raise
        print(f"Note: {error} The run goes on without it.", file=sys.stderr)
        return None


def main() -> None:
    classes = (DataArguments, runs.ScratchArguments, runs.EvaluationArguments, CoTSFTConfig, ModelConfig)
    data, scratch, evaluation, args, model_args = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    check_world_size(data.expected_world_size)
    runs.same_settings_or_refuse(args, data, scratch, args, model_args)
    if runs.is_finished(args.output_dir):
        print(f"{args.output_dir} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return
    evaluates = args.eval_strategy != "no"
    with args.main_process_first(desc="loading the data set"):
        train, test = load_split(data, "train"), load_split(data, "test", needed=False)
        validation = load_split(data, "validation") if evaluates else None
    train = train.select(range(min(data.max_train_records or len(train), len(train))))
    model, tokenizer = runs.load_model_and_tokenizer(model_args, scratch, args, train)
    generation_eval = runs.generation_eval(validation, tokenizer, evaluation, data.thinking) if evaluates else None
    if not data.thinking:
        train, validation = (part and part.map(lambda record: {"steps": []}) for part in (train, validation))
    trainer = CoTSFTTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        generation_eval=generation_eval,
    )
    runs.train_or_go_on(trainer)
    report = Path(data.dataset, "report.json") if data.dataset and os.path.isdir(data.dataset) else None
    runs.finish(
        trainer, test, evaluation, template=TEMPLATE, data_report=report, base_model=model_args.model_name_or_path,
        thinking=data.thinking, dataset_name=data.dataset if report is None else None,
    )  # fmt: skip


if __name__ == "__main__":
    with runs.one_line_errors():
        main()
