"""Fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/sft_cot.py \\
        --config recipes/configs/sft_cot/qwen2.5-0.5b-110k.yaml
    torchrun --nproc_per_node 2 recipes/sft_cot.py --config FILE.yaml --use_cpu true

The YAML holds any argument of the classes below, of `CoTSFTConfig` (TRL's `SFTConfig` and more) and of TRL's
`ModelConfig` (LoRA, quantisation); the command line overrides it. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import runs
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.launch import check_world_size

TEMPLATE = Path(__file__).parents[1] / "model_cards" / "template.md"


def main() -> None:
    classes = (
        runs.DataArguments, runs.ScratchArguments, runs.LongContextArguments, runs.EvaluationArguments, CoTSFTConfig,
        ModelConfig,
    )  # fmt: skip
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    data, scratch, long_context, evaluation, args, model_args = parsed
    check_world_size(data.expected_world_size)
    runs.same_settings_or_refuse(args, data, scratch, long_context, args, model_args)
    if runs.is_finished(args.output_dir):
        print(f"{args.output_dir} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return
    evaluates = args.eval_strategy != "no"
    train, validation, test = runs.load_splits(data, args, evaluates)
    model, tokenizer = runs.load_model_and_tokenizer(model_args, scratch, args, train)
    long_context.apply(model)
    generation_eval = runs.generation_eval(validation, tokenizer, evaluation, data.thinking) if evaluates else None
    trainer = CoTSFTTrainer(
        model=model,
        args=args,
        train_dataset=runs.as_trained(train, data.thinking),
        eval_dataset=runs.as_trained(validation, data.thinking),
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
        generation_eval=generation_eval,
    )
    runs.train_or_go_on(trainer)
    runs.finish(
        trainer, test, evaluation, template=TEMPLATE, data_report=data.report, thinking=data.thinking,
        base_model=model_args.model_name_or_path, dataset_name=None if data.report else data.dataset,
    )  # fmt: skip


if __name__ == "__main__":
    with runs.one_line_errors():
        main()
