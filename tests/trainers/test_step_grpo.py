"""`StepGRPOTrainer`: TRL's loss without credit, a worked example with it, what it writes and what it refuses."""

import copy

import pytest
import torch
from datasets import Dataset
from tiny import logged, tiny_qwen2, tiny_step_reasoner
from trl import GRPOConfig, GRPOTrainer

from hf_reason import StepGRPOConfig, StepGRPOTrainer
from hf_reason.text import encode_prompt, parse
from hf_reason.text.spans import completion_spans

SETTINGS = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 16,
    "learning_rate": 1e-2,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "no",
}
RIGHT = "<think>\n步骤1:3+4=7\n步骤2:7-2=5\n</think>\n\n5"
WRONG_FIRST = "<think>\n步骤1:3+4=8\n步骤2:8-2=6\n</think>\n\n6"
WRONG_LAST = "<think>\n步骤1:3+4=7\n步骤2:7-2=4\n</think>\n\n4"
NO_CHECK = "<think>\n步骤1:看看\n步骤2:3+4-2=5\n</think>\n\n5"
PROBLEM = {
    "context": "有3个苹果,又来4个,吃掉2个。还剩几个?",
    "steps": ["3+4=7", "7-2=5"],
    "answer": "5",
    "domain": "math",
}


def by_length(completions, **kwargs):
    """A reward that any model can earn."""
    return [len(text) / 10 for text in completions]


def right(completions, answer, **kwargs):
    return [float(parse(text).answer == wanted) for text, wanted in zip(completions, answer, strict=True)]


def make(tmp_path, model, tokenizer, rows, rewards=by_length, kind=StepGRPOTrainer, trainer_options=None, **settings):
    config = {StepGRPOTrainer: StepGRPOConfig, GRPOTrainer: GRPOConfig}[kind]
    return kind(
        copy.deepcopy(model),
        rewards,
        config(str(tmp_path), **{**SETTINGS, **settings}),
        Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
        **(trainer_options or {}),
    )


def writes(trainer, *texts):
    """Let the trainer's model write these completions, over and over."""
    tokenizer = trainer._tokenizer
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    trainer._generate_single_turn = lambda prompts, *a, **k: (
        [list(ids[i % len(ids)]) for i in range(len(prompts))],
        None,
    )
    return trainer


@pytest.fixture
def model(tokenizer):
    model = tiny_qwen2(tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


PROMPTS = [{"prompt": f"{number}+2=?", "answer": str(number + 2)} for number in range(8)]


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "grpo", "beta": 0.1, "num_iterations": 2},
        {"loss_type": "dapo", "gradient_accumulation_steps": 2, "mask_truncated_completions": True},
        *(
            pytest.param(settings, marks=pytest.mark.slow)
            for settings in (
                {"loss_type": "bnpo", "num_iterations": 2},
                {"loss_type": "dr_grpo", "scale_rewards": "none"},
                {"loss_type": "cispo", "scale_rewards": "batch"},
                {"loss_type": "luspo", "importance_sampling_level": "sequence"},
                {"loss_type": "sapo"},
                {"loss_type": "vespo"},
            )
        ),
    ],
    ids=lambda settings: settings["loss_type"],
)
def test_without_credit_the_training_is_that_of_trl(tmp_path, model, tokenizer, settings):
    model.save_pretrained(tmp_path / "model")  # beta loads its reference from there
    model.config._name_or_path = str(tmp_path / "model")
    ours = make(tmp_path / "a", model, tokenizer, PROMPTS, step_weight=0, **settings)
    ours.train()
    theirs = make(tmp_path / "b", model, tokenizer, PROMPTS, kind=GRPOTrainer, **settings)
    theirs.train()
    assert logged(ours) == pytest.approx(logged(theirs), abs=1e-6)
    assert logged(ours, "reward") == logged(theirs, "reward")
    for one, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_advantages_worked_out_by_hand(tmp_path, model, tokenizer):
    """The answers: 1, 0, 0, 1 -> mean 1/2, std sqrt(1/3). The first steps: 1, 0, 1, -; the second: 1, -, 0, 1."""
    trainer = make(tmp_path, model, tokenizer, [PROBLEM], rewards=right, step_weight=0.5)
    writes(trainer, RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK)
    trainer.model.train()
    output = trainer._generate_and_score_completions([trainer.train_dataset[0]] * 4)
    whole = 0.5 / ((1 / 3) ** 0.5 + 1e-4)
    # of three verdicts each: two right, one wrong
    better, worse = (1 / 3) / ((1 / 3) ** 0.5 + 1e-4), (-2 / 3) / ((1 / 3) ** 0.5 + 1e-4)
    expected = [
        (whole, better, better),
        (-whole, worse, 0.0),  # nothing after the first wrong step
        (-whole, better, worse),
        (whole, 0.0, better),  # nothing to check in the first
    ]
    texts = (RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK)
    for row, text, (answer, one, two) in zip(output["advantages"], texts, expected, strict=True):
        numbers = completion_spans(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer)["step_ids"]
        of = {1: answer + 0.5 * one, 2: answer + 0.5 * two, 3: answer}
        values = [of[number] for number in numbers]
        assert set(numbers) == {1, 2, 3}
        assert row[: len(values)].tolist() == pytest.approx(values)
        assert row[len(values) :].tolist() == pytest.approx([answer] * (len(row) - len(values)))
    figures = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert figures["steps/right"] == pytest.approx(4 / 6) and figures["steps/checked"] == pytest.approx(6 / 8)
    lengths = output["completion_mask"].sum().item()
    credited = (output["advantages"] - output["advantages"][:, -1:]).ne(0) & output["completion_mask"].bool()
    assert figures["steps/credited"] == pytest.approx(credited.sum().item() / lengths)
    assert figures["answers/right"] == 0.5 and figures["thoughts/closed"] == 1
    assert figures["groups/always_right"] == figures["groups/never_right"] == 0
    assert trainer.sample["verdicts"] == [1.0, 1.0] and trainer.sample["rewards"] == {"right": 1.0}


def test_a_wrong_step_becomes_less_likely_than_a_right_one(tmp_path, model, tokenizer):
    """Both chains have the same answer, so without credit there is nothing to learn."""
    texts = (RIGHT, RIGHT.replace("3+4=7", "3+4=9"))

    def gap(trainer):
        prompt = encode_prompt(PROBLEM, tokenizer)
        sums = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            logits = trainer.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            sums.append(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item())
        return sums[0] - sums[1]

    gaps = []
    for weight in (0.0, 1.0):
        trainer = make(tmp_path, model, tokenizer, [PROBLEM], rewards=right, step_weight=weight, max_steps=4)
        before = gap(trainer)
        writes(trainer, *texts).train()
        gaps.append(gap(trainer) - before)
    assert gaps[0] == pytest.approx(0, abs=1e-4) and gaps[1] > 0.1


def test_prompts_are_those_of_the_prompt_builder(tmp_path, model, tokenizer, records):
    """No BOS is written twice, the chat template is there, and the rewards see the record's columns."""
    seen = {}

    def reward(prompts, completions, **columns):
        seen.update(columns, prompts=prompts)
        return [0.0] * len(prompts)

    trainer = make(
        tmp_path, model, tokenizer, records[:4], rewards=reward, trainer_options={"instructions": {"math": "算:"}}
    )
    writes(trainer, RIGHT)
    example = trainer.train_dataset[1]
    trainer.model.train()
    output = trainer._generate_and_score_completions([example] * 4)
    expected = encode_prompt(records[1], tokenizer, instructions={"math": "算:"})
    assert output["prompt_ids"][0].tolist() == expected
    assert seen["answer"] == [records[1]["answer"]] * 4 and seen["steps"][0] == records[1]["steps"]
    assert seen["context"][0] == records[1]["context"] and "算:" in seen["prompts"][0]


@pytest.mark.slow
def test_lora_trains_its_adapter_alone(tmp_path, model, tokenizer):
    from peft import LoraConfig

    lora = LoraConfig(target_modules="all-linear", r=4, init_lora_weights=False)
    options = {"peft_config": lora}
    trainer = make(tmp_path, model, tokenizer, [PROBLEM], rewards=right, trainer_options=options)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    writes(trainer, RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK).train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all("lora_" in name for name in moved)
    trainer.save_model()
    assert {"adapter_model.safetensors", "base_model.json"} <= {path.name for path in tmp_path.iterdir()}


def test_accumulation_changes_nothing(tmp_path, model, tokenizer):
    """Four micro-batches of two completions, or one batch of eight: the same loss and weights."""
    ends = []
    for size, steps in ((8, 1), (2, 4)):
        trainer = make(
            tmp_path,
            model,
            tokenizer,
            [PROBLEM, {**PROBLEM, "context": "另一题:3和4,再减2"}],
            rewards=right,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
        )
        writes(trainer, RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK).train()
        ends.append([logged(trainer)[0], *trainer.model.parameters()])
    for other in ends[1:]:
        assert other[0] == pytest.approx(ends[0][0], abs=1e-6)
        for one, two in zip(ends[0][1:], other[1:], strict=True):
            assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("at", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_resumed_run_has_the_same_rewards(tmp_path, model, tokenizer, at):
    """Also from a checkpoint (3) in the middle of a generation batch that is used for two updates."""

    def trainer():
        rows = PROMPTS[:6]
        return make(
            tmp_path, model, tokenizer, rows, max_steps=6, num_iterations=2, save_strategy="steps", save_steps=1
        )

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    for name in ("loss", "entropy"):
        assert logged(resumed, name) == pytest.approx(logged(whole, name), abs=1e-6)
    # a reward belongs to the update after its completions were written
    assert logged(resumed, "reward") == logged(whole, "reward")
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_step_reasoner_generates_and_learns(tmp_path, tokenizer):
    model = tiny_step_reasoner(tokenizer)
    trainer = make(tmp_path, model, tokenizer, PROMPTS)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    writes(trainer, RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK).train()  # of several steps, for the reasoner
    assert all(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


@pytest.mark.parametrize("kind", ["step_reasoner", "loar", "qwen2"])
def test_probabilities_are_those_of_the_model_that_wrote(tmp_path, tokenizer, kind):
    """Prompts of two lengths, padded on the left: the first update's ratio to the sampler's probabilities is 1."""
    from hf_reason import LoARConfig, apply_loar

    model = tiny_step_reasoner(tokenizer) if kind == "step_reasoner" else tiny_qwen2(tokenizer, num_key_value_heads=2)
    if kind == "loar":
        apply_loar(model, LoARConfig(budget=1, task_names=["math", "finance"]))
    trainer = make(tmp_path, model, tokenizer, [PROBLEM, {**PROBLEM, "context": "3+4-2=?", "domain": "finance"}])
    rows = [trainer.train_dataset[0]] * 2 + [trainer.train_dataset[1]] * 2
    trainer.model.eval()
    trainer._first_batch_checked = True
    output = trainer._generate_and_score_completions(rows)
    trainer.routing.row_domains = output.get("domain_ids")
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    with torch.no_grad():
        padded, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, output["completion_ids"].shape[1], batch_size=2
        )
        for row in range(4):
            alone = ids[row][mask[row].bool()][None]
            prompt = int(output["prompt_mask"][row].sum())
            with trainer.routing.for_domains([rows[row]["domain"]]):
                extra = {"prompt_length": prompt} if kind == "step_reasoner" else {}
                if kind == "loar":
                    extra["loar_prompt_mask"] = torch.arange(alone.shape[1])[None] < prompt
                logits = trainer.model(alone, **extra).logits[0, prompt - 1 : -1]
            wanted = logits.log_softmax(-1).gather(1, alone[0, prompt:, None])[:, 0]
            assert torch.allclose(padded[row][: len(wanted)], wanted, atol=1e-4), row


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([PROBLEM, {**PROBLEM, "answer": " "}], {}, r"1 of 2 records have no answer .*the first is row 1"),
        ([PROBLEM], {"num_generations": 1, "per_device_train_batch_size": 1}, "at least 2 generations"),
        ([PROBLEM], {"step_weight": -1}, "step_weight must not be negative"),
        ([PROBLEM], {"step_baseline": "mean"}, "step_baseline must be one of depth, running"),
        ([{**PROBLEM, "id": "a"}], {"difficulty_from": "no/such"}, "there is no file no/such"),
        (PROMPTS, {"skip_settled": True}, "skip_settled needs records"),
        (PROMPTS, {"difficulty_from": "x"}, "goes by the ids of records"),
    ],
)
def test_what_is_refused(tmp_path, model, tokenizer, rows, settings, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, model, tokenizer, rows, **settings)


def test_completions_that_teach_nothing_are_refused(tmp_path, model, tokenizer):
    trainer = make(tmp_path, model, tokenizer, [PROBLEM])
    with pytest.raises(ValueError, match="clipped at max_completion_length=16.*Raise max_completion_length"):
        trainer.train()
    trainer = writes(make(tmp_path, model, tokenizer, [PROBLEM]), "just 5")
    with pytest.raises(ValueError, match="None of the 4 completions.* has a thought.*hf-reason sft"):
        trainer.train()
    writes(make(tmp_path, model, tokenizer, [PROBLEM], step_weight=0), "just 5").train()
