"""`StepGRPOTrainer` on other data, models and settings than those of `test_step_grpo.py`."""

import copy

import pytest
import torch
from datasets import Dataset
from test_step_grpo import NO_CHECK, PROBLEM, RIGHT, SETTINGS, WRONG_FIRST, WRONG_LAST, by_length, make, right, writes
from tiny import logged, save_model, tiny_model, tiny_qwen2
from trl import GRPOConfig

from hf_reason import LoARConfig, StepGRPOConfig, StepGRPOTrainer, apply_loar
from hf_reason.trainers.step_grpo import StepGRPOTrainer as Direct

pytestmark = pytest.mark.slow
TEXTS = (RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK)
ROWS = [{**PROBLEM, "id": str(number), "context": f"{PROBLEM['context']}({number})"} for number in range(4)]


def _conversations():
    return [
        {"prompt": [{"role": "user", "content": row["context"]}], "answer": row["answer"], "context": row["context"]}
        for row in ROWS
    ]


def right_message(completions, answer, **kwargs):
    return right([turns[0]["content"] for turns in completions], answer)


def test_conversations_get_the_same_credit_as_records(tmp_path, tokenizer):
    found = []
    for rows, reward in ((ROWS, right), (_conversations(), right_message)):
        trainer = writes(make(tmp_path, tiny_qwen2(tokenizer), tokenizer, rows, rewards=reward), *TEXTS)
        trainer.model.train()
        output = trainer._generate_and_score_completions([trainer.train_dataset[0]] * 4)
        found.append((output["advantages"], output["prompt_ids"]))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_streamed_records(tmp_path, tokenizer):
    stream = Dataset.from_list(ROWS).to_iterable_dataset()
    args = StepGRPOConfig(str(tmp_path), **SETTINGS)
    trainer = writes(StepGRPOTrainer(tiny_qwen2(tokenizer), right, args, stream, processing_class=tokenizer), *TEXTS)
    trainer.train()
    assert logged(trainer, "reward") == [0.5, 0.5]
    for settings in ({"skip_settled": True}, {"difficulty_from": "x"}):
        with pytest.raises(ValueError, match="streamed|streaming"):
            args = StepGRPOConfig(str(tmp_path), **SETTINGS, **settings)
            StepGRPOTrainer(tiny_qwen2(tokenizer), right, args, stream, processing_class=tokenizer)


def test_a_model_by_name_and_the_configuration_of_trl(tmp_path, tokenizer):
    name = save_model(tmp_path / "m", tiny_qwen2(tokenizer), tokenizer)
    args = GRPOConfig(str(tmp_path / "o"), **SETTINGS, gradient_accumulation_steps=2)
    trainer = writes(Direct(name, right, args, Dataset.from_list(ROWS)), *TEXTS)
    assert isinstance(trainer.args, StepGRPOConfig) and trainer.args.generation_batch_size == 8
    assert trainer.args.max_completion_length == 16 and args.steps_per_generation == 2
    trainer.train()
    with pytest.raises(TypeError, match="StepGRPOConfig"):
        from hf_reason import CoTSFTConfig

        StepGRPOTrainer(name, right, CoTSFTConfig(str(tmp_path), bf16=False), Dataset.from_list(ROWS))


@pytest.mark.parametrize("settings", [{}, {"num_iterations": 2}])
def test_loar_trains_its_routers(tmp_path, tokenizer, settings):
    model = tiny_qwen2(tokenizer, num_key_value_heads=2)
    apply_loar(model, LoARConfig(budget=1, task_names=["math"]))
    rows = [ROWS[0], {**ROWS[1], "domain": "finance"}]
    trainer = make(tmp_path, model, tokenizer, rows, rewards=by_length, step_weight=0, **settings)
    trainer._first_batch_checked = True  # whatever it writes
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert any("loar" in name for name in moved) and any("q_proj" in name for name in moved)
    assert logged(trainer, "heads_working")
    trainer.save_model()
    assert (tmp_path / "loar.safetensors").is_file()
    with pytest.raises(ValueError, match="Set beta=0"):
        make(tmp_path, model, tokenizer, ROWS, beta=0.1)


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "gemma2", "llama"])
def test_other_architectures(tmp_path, tokenizer, kind):
    model = tiny_model(tokenizer, kind)
    trainer = make(tmp_path, model, tokenizer, ROWS, rewards=by_length)
    trainer._first_batch_checked = True
    trainer.train()
    assert all(value == value for value in logged(trainer))
    writes(trainer, *TEXTS).train()


def test_an_adapter_that_the_model_carries_is_trained_further(tmp_path, tokenizer):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_qwen2(tokenizer), LoraConfig(target_modules="all-linear", r=4))
    trainer = writes(make(tmp_path, model, tokenizer, ROWS, rewards=right, beta=0.1), *TEXTS)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all("lora_" in name and ".default." in name for name in moved)


def test_evaluation_logs_rewards_and_generated_figures(tmp_path, tokenizer):
    args = StepGRPOConfig(
        str(tmp_path), **{**SETTINGS, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4}
    )
    data = Dataset.from_list(ROWS)
    trainer = StepGRPOTrainer(
        tiny_qwen2(tokenizer),
        right,
        args,
        data,
        {"a": data, "b": data},
        tokenizer,
        generation_eval=lambda model: {"answer_accuracy": 0.25},
    )
    writes(trainer, *TEXTS).train()
    assert logged(trainer, "eval_a_reward") == logged(trainer, "eval_b_steps/right") or logged(trainer, "eval_a_loss")
    assert logged(trainer, "eval_answer_accuracy") == [0.25, 0.25]
    assert trainer.settled.counts() == (0, 0), "groups of an evaluation are not counted"


def test_settled_problems_are_left_out_and_counted(tmp_path, tokenizer):
    """One problem of four is always solved: its place goes to the others from the second epoch on."""
    seen = []

    def reward(completions, answer, context, **kwargs):
        seen.extend(context)
        return right(completions, answer)

    rows = [{**row, "answer": "5" if number == 2 else "77"} for number, row in enumerate(ROWS)]
    trainer = make(
        tmp_path,
        tiny_qwen2(tokenizer),
        tokenizer,
        rows,
        rewards=reward,
        max_steps=-1,
        num_train_epochs=3,
        skip_settled=True,
        scale_rewards="none",
    )
    answers = {"5": [RIGHT] * 4, "77": [RIGHT.replace("\n\n5", "\n\n77"), RIGHT]}
    tokenize = trainer._tokenizer
    contexts: list[str] = []

    def generate(prompts, *args, **kwargs):
        found = []
        for row, ids in enumerate(prompts):
            number = int(tokenize.decode(ids).split("(")[1].split(")")[0])
            contexts.append(str(number))
            choice = answers[rows[number]["answer"]]
            text = choice[row % len(choice)]
            found.append(tokenize(text, add_special_tokens=False)["input_ids"] + [tokenize.eos_token_id])
        return found, None

    trainer._generate_single_turn = generate
    trainer.train()
    visits = [contexts[place] for place in range(0, len(contexts), 4)]
    assert sorted(visits[:4]) == ["0", "1", "2", "3"]
    assert len(visits) == 12 and "2" not in visits[4:8]
    assert "2" in visits[8:] and logged(trainer, "problems/skipped") == [0.0] * 4 + [1.0] * 4 + [0.0] * 4
    assert trainer.settled.counts() == (1, 0)


def test_offline_difficulty(tmp_path, tokenizer):
    import json

    file = tmp_path / "predictions.jsonl"
    verdicts = {"0": [True, True], "1": [False, False], "2": [True, False]}
    lines = [{"model": "m", "id": name, "correct": value} for name, values in verdicts.items() for value in values]
    file.write_text("\n".join(map(json.dumps, lines)))
    trainer = make(tmp_path, tiny_qwen2(tokenizer), tokenizer, ROWS, rewards=right, difficulty_from=str(tmp_path))
    assert trainer.train_dataset["id"] == ["2", "3"] or list(trainer.train_dataset["id"]) == ["2", "3"]
    assert trainer.data.dropped == (1, 1)
    others = [{**row, "id": "x" + row["id"]} for row in ROWS]
    with pytest.raises(ValueError, match="none of the 3 problems"):
        make(tmp_path, tiny_qwen2(tokenizer), tokenizer, others, difficulty_from=str(file))


def test_the_running_mean_is_resumed(tmp_path, tokenizer):
    def trainer():
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "step_baseline": "running"}
        made = make(tmp_path, tiny_qwen2(tokenizer), tokenizer, ROWS, rewards=right, **settings)
        return writes(made, *TEXTS)

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert vars(resumed.credit.running) == vars(whole.credit.running)
    assert logged(resumed)[-2:] == pytest.approx(logged(whole)[-2:], abs=1e-6)


def test_continuous_batching(tmp_path, tokenizer):
    settings = {
        "use_transformers_continuous_batching": True,
        "transformers_continuous_batching_config": {"num_blocks": 8, "max_batch_tokens": 128},
    }
    trainer = make(tmp_path, tiny_qwen2(tokenizer), tokenizer, ROWS, rewards=by_length, **settings)
    trainer._first_batch_checked = True
    trainer.train()
    assert len(logged(trainer)) == 2


def test_a_copy_of_the_arguments_is_trained_with(tmp_path, tokenizer):
    args = StepGRPOConfig(str(tmp_path), **SETTINGS)
    before = copy.deepcopy(args.to_dict())
    writes(
        StepGRPOTrainer(tiny_qwen2(tokenizer), right, args, Dataset.from_list(ROWS), None, tokenizer), *TEXTS
    ).train()
    assert args.to_dict() == before
