"""`first_steps`: on-policy completions that end at a step; and the health figures of on-policy batches."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny import first_batch, logged, tiny_qwen2, tiny_trainer

from hf_reason.generation.step_limit import StepLimit
from hf_reason.losses import LiveTargets, LMHead, TopKTargets, agreement
from hf_reason.text import encode
from hf_reason.text.collator import CoTCollator
from hf_reason.text.spans import decoded
from hf_reason.text.written import read_chain
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer
from hf_reason.trainers.on_policy import own_completions, step_limits

THREE = "<think>\n步骤1:3+4=7\n步骤2:7-2=5\n步骤3:5+1=6\n</think>\n\n6"
LINES = "<think>\n步骤1:3+4\n=7\n步骤2:7-2=5\n</think>\n\n5"
PROSE = "<think>\n首先,3+4=7。\n\n然后,7-2=5。\n\n最后,5+1=6。\n\n</think>\n\n6"


class Scripted:
    """A model that writes given texts, token by token, under the stopping criteria that it is given."""

    def __init__(self, tokenizer, texts):
        self.rows = [
            tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in texts
        ]
        self.generation_config = SimpleNamespace(eos_token_id=tokenizer.eos_token_id)
        self.pad, self.passes = tokenizer.pad_token_id, 0

    def generate(self, input_ids, attention_mask, generation_config, stopping_criteria=()):
        ended = [False] * len(input_ids)
        for place in range(generation_config.max_new_tokens):
            column = [
                self.pad if done or place >= len(row) else row[place]
                for row, done in zip(self.rows, ended, strict=True)
            ]
            input_ids = torch.cat([input_ids, torch.tensor(column)[:, None]], dim=1)
            self.passes += 1
            ended = [e or token in generation_config.eos_token_id for e, token in zip(ended, column, strict=True)]
            for criterion in stopping_criteria:
                ended = [e or s for e, s in zip(ended, criterion(input_ids, None).tolist(), strict=True)]
            if all(ended):
                break
        return input_ids


def write(tokenizer, records, texts, first_steps, max_new_tokens=200):
    """The student's batch for the first records, what was noted, and the scripted model."""
    collate = CoTCollator(pad_token_id=tokenizer.pad_token_id)
    batch = collate([encode(record, tokenizer) for record in records[: len(texts)]])
    model, noted = Scripted(tokenizer, texts), {}
    options = {"max_new_tokens": max_new_tokens, "temperature": 1.0, "first_steps": first_steps}
    own = own_completions(model, batch, tokenizer, collate, note=noted.update, **options)
    return own, noted, model, batch


def completions(own, tokenizer):
    return [decoded(row[row != -100].tolist(), tokenizer) for row in own["labels"]]


@pytest.mark.parametrize(
    ("text", "steps", "kept"),
    [
        (THREE, 1, "<think>\n步骤1:3+4=7\n"),
        (THREE, 2, "<think>\n步骤1:3+4=7\n步骤2:7-2=5\n"),
        (THREE, 3, THREE.removesuffix("\n\n6")),
        (THREE, 9, THREE.removesuffix("\n\n6")),  # the thought ends first
        (LINES, 1, "<think>\n步骤1:3+4\n=7\n"),  # a step of two lines stays whole
        (PROSE, 1, "<think>\n首先,3+4=7。\n\n"),
        (PROSE, 2, "<think>\n首先,3+4=7。\n\n然后,7-2=5。\n\n"),
    ],
)
def test_nothing_beyond_the_last_step_stays(tokenizer, records, text, steps, kept):
    own, noted, model, _ = write(tokenizer, records, [text], steps)
    assert completions(own, tokenizer) == [kept]
    assert own["step_ids"].max() <= steps or text == PROSE
    assert noted["first_steps/stopped_ratio"] == (1, 1) and noted["completions/clipped_ratio"] == (0, 1)
    # generation itself ended there: at most the beginning of the next label was sampled, or a clause of prose
    written = len(tokenizer(kept, add_special_tokens=False)["input_ids"])
    further = len(tokenizer("步骤9:" if text != PROSE else "最后,5+1=6。\n\n", add_special_tokens=False)["input_ids"])
    assert written <= model.passes <= written + further
    assert model.passes < len(model.rows[0]) - 1 or steps >= 3


def test_the_batch_ends_when_all_rows_have(tokenizer, records):
    short = "<think>\n步骤1:3+4=7\n</think>\n\n7"
    own, noted, model, batch = write(tokenizer, records, [THREE, short, "<think>\n步骤1:3+4=7"], 1)
    ended = THREE[: THREE.index("步骤2")], short.removesuffix("\n\n7"), "<think>\n步骤1:3+4=7"
    assert completions(own, tokenizer)[:2] == list(ended[:2])
    # the third ends by itself within its first step
    assert completions(own, tokenizer)[2] == ended[2] + tokenizer.eos_token
    assert model.passes <= len(tokenizer(short, add_special_tokens=False)["input_ids"])
    assert noted["first_steps/stopped_ratio"] == (2, 3) and noted["thoughts/closed"] == (1, 3)
    lengths = [int((row != -100).sum()) for row in own["labels"]]
    assert noted["completions/mean_length"] == (sum(lengths), 3)
    # what the records' own completions have beyond: the figure of what was saved
    whole = [int((row != -100).sum()) for row in batch["labels"]]
    saved = sum(max(a - b, 0) for a, b in zip(whole[:2], lengths[:2], strict=True))
    assert noted["first_steps/tokens_saved"] == (saved, 3) and saved > 0
    seconds, further = noted["sampling/seconds"][0], max(whole[:2]) - model.passes
    assert noted["first_steps/seconds_saved"][0] == pytest.approx(max(further, 0) * seconds / model.passes)


def test_figures_of_whole_completions(tokenizer, records):
    _, noted, model, _ = write(tokenizer, records, [THREE, "<think>\n步骤1:3+4=7\n" * 9, "5"], None, max_new_tokens=40)
    count = len(tokenizer(THREE, add_special_tokens=False)["input_ids"]) + 1
    assert count <= 40
    assert noted["completions/mean_length"] == (count + 40 + 2, 3)
    assert noted["completions/clipped_ratio"] == (1, 3) and noted["thoughts/closed"] == (1, 3)
    assert "first_steps/stopped_ratio" not in noted


def test_a_fraction_is_one_of_the_records_own_steps(tokenizer, records):
    chosen = [*records[:12], {**records[0], "steps": []}]
    batch = CoTCollator(pad_token_id=tokenizer.pad_token_id)([encode(record, tokenizer) for record in chosen])
    counts = [len(record["steps"]) for record in chosen[:-1]]
    for fraction in (0.1, 0.5, 0.99):
        wanted = [max(1, math.ceil(fraction * count)) for count in counts]
        assert step_limits(batch, fraction) == [*wanted, None]  # a record without a thought has no limit
    assert step_limits(batch, 2) == [2] * 12 + [None] and step_limits(batch, None) == [None] * 13
    ten = {"input_ids": torch.zeros(1, 11), "step_ids": torch.arange(11)[None], "segment_ids": torch.ones(1, 11)}
    assert step_limits(ten, 0.3) == [3]  # not 4, by the rounding of 0.3 * 10
    plain = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
    assert step_limits(plain, 3) == [3] * 13
    with pytest.raises(ValueError, match="fraction of the steps of a record, and the data set has none"):
        step_limits(plain, 0.5)


def test_a_prompt_that_closes_the_thought_has_no_limit(tokenizer):
    prompt = tokenizer("x<think>\n\n</think>\n\n", add_special_tokens=False)["input_ids"]
    limit = StepLimit(tokenizer, [prompt], [1], [tokenizer.eos_token_id], len(prompt))
    ids = prompt + tokenizer("一。\n二。\n三。\n", add_special_tokens=False)["input_ids"]
    assert [limit(torch.tensor([ids[:end]]), None).item() for end in range(len(prompt) + 1, len(ids))].count(True) == 0


def test_a_prompt_that_opens_the_thought(tokenizer):
    prompt = tokenizer("x<think>\n", add_special_tokens=False)["input_ids"]
    text = THREE.removeprefix("<think>\n")
    ids = prompt + tokenizer(text, add_special_tokens=False)["input_ids"]
    limit = StepLimit(tokenizer, [prompt], [1], [tokenizer.eos_token_id], len(prompt))
    end = next(end for end in range(len(prompt) + 1, len(ids)) if limit(torch.tensor([ids[:end]]), None).item())
    assert decoded(ids[len(prompt) : len(prompt) + limit.kept[0]], tokenizer) == "步骤1:3+4=7\n"
    assert end - len(prompt) - limit.kept[0] <= 4


def test_random_text_stops_at_its_steps(tokenizer, records):
    """Whatever a row writes, what stays of a stopped row has no more than k steps."""
    pieces = [
        "<think>\n",
        "步骤1:",
        "步骤2:",
        "步骤3:",
        "\n",
        "\n\n",
        "。",
        "首先",
        "</think>",
        "3+4=7",
        "Wait, ",
        "步骤",
    ]
    draw = torch.Generator().manual_seed(0)
    for _ in range(40):
        picked = torch.randint(len(pieces), (14,), generator=draw).tolist()
        text = "<think>\n" + "".join(pieces[number] for number in picked)
        for steps in (1, 2):
            own, noted, _, _ = write(tokenizer, records, [text], steps)
            row = own["labels"][0][own["labels"][0] != -100].tolist()
            if noted["first_steps/stopped_ratio"][0]:
                assert len(read_chain(row, tokenizer).steps) <= steps, text


# In the trainer


def trainer_of(tmp_path, model, tokenizer, records, teacher, **options):
    kwargs = {"teacher_model": teacher, "teacher_tokenizer": tokenizer}
    return tiny_trainer(
        DistillKLTrainer, DistillKLConfig, tmp_path / "run", model, tokenizer, records, None, kwargs, **options
    )


def test_only_the_first_steps_are_scored(tmp_path, tiny_model, tokenizer, records, monkeypatch):
    """The loss is the divergence on the kept tokens, and the log has the figures, worked out from all logits."""
    teacher = tiny_qwen2(tokenizer, seed=1)
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, records, teacher, lmbda=1.0, first_steps=1, max_steps=1)
    batch = first_batch(trainer)
    scripted = Scripted(tokenizer, [THREE] * 4)
    monkeypatch.setattr(trainer.model, "generate", scripted.generate)
    trainer.model_wrapped.train()
    (own,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    kept = len(tokenizer(THREE[: THREE.index("步骤2")], add_special_tokens=False)["input_ids"])
    assert count == 4 * kept and own["step_ids"].max() == 1
    trainer.compute_loss(trainer.model, dict(own), num_items_in_batch=count)
    mask = own["labels"][:, 1:] != -100
    inputs = {"input_ids": own["input_ids"], "attention_mask": own["attention_mask"]}
    ours, theirs = (m(**inputs).logits[:, :-1, : len(tokenizer)][mask].detach() for m in (trainer.model, teacher))
    trainer.log({})
    figures = trainer.state.log_history[-1]
    p = ours.log_softmax(-1)
    assert figures["entropy"] == pytest.approx(-(p.exp() * p).sum(-1).mean().item(), abs=1e-4)
    both = zip(ours.topk(16).indices.tolist(), theirs.topk(16).indices.tolist(), strict=True)
    overlap = [len(set(a) & set(b)) / 16 for a, b in both]
    assert figures["top_k_overlap"] == pytest.approx(sum(overlap) / len(overlap), abs=1e-4)
    assert figures["completions/mean_length"] == kept and figures["first_steps/stopped_ratio"] == 1
    assert figures["sampling/seconds"] > 0 and figures["thoughts/closed"] == 0


def test_a_run_with_first_steps(tmp_path, tiny_model, tokenizer, records):
    """An untrained student: whatever it writes, the run ends and logs; records' own batches have no such figures."""
    options = {"lmbda": 1.0, "first_steps": 0.5, "max_completion_length": 16, "max_steps": 2}
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, records, tiny_qwen2(tokenizer, seed=1), **options)
    trainer.train()
    assert len(logged(trainer, "first_steps/tokens_saved")) == 2
    off = trainer_of(tmp_path, tiny_model, tokenizer, records, tiny_qwen2(tokenizer, seed=1), max_steps=1)
    off.train()
    assert not logged(off, "entropy") and not logged(off, "completions/mean_length") and logged(off, "kl")


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.5, True, math.nan])
def test_numbers_that_mean_nothing(tmp_path, value):
    with pytest.raises(ValueError, match="first_steps must be a number of steps"):
        DistillKLConfig(str(tmp_path), use_cpu=True, bf16=False, lmbda=0.5, first_steps=value)


def test_as_text_and_without_on_policy(tmp_path):
    settings = {"use_cpu": True, "bf16": False}
    assert DistillKLConfig(str(tmp_path), lmbda=0.5, first_steps="3", **settings).first_steps == 3
    assert DistillKLConfig(str(tmp_path), lmbda=0.5, first_steps=1.0, **settings).first_steps == 1
    with pytest.raises(ValueError, match="Set lmbda above 0"):
        DistillKLConfig(str(tmp_path), first_steps=2, **settings)


# The figures by hand


def test_agreement_worked_out_by_hand():
    """Logits of two positions over four tokens, by heads that are the identity."""
    head = LMHead(torch.eye(4))
    student = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    teacher = torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    found = agreement(student[:1], head, LiveTargets(teacher[:1], head), top_k=2)
    assert found.overlap.tolist() == [0.5]  # {0, 1} and {0, 2}
    z = sum(math.exp(x) for x in (4, 3, 2, 1))
    wanted = -sum(math.exp(x) / z * (x - math.log(z)) for x in (4, 3, 2, 1))
    assert found.entropy.item() == pytest.approx(wanted)
    flat = agreement(student[1:], head, LiveTargets(teacher[1:], head), top_k=4)
    assert flat.entropy.item() == pytest.approx(math.log(4)) and flat.overlap.item() == 1
    hot = agreement(student[:1], head, LiveTargets(teacher[:1], head), top_k=2, temperature=1e4)
    assert hot.entropy.item() == pytest.approx(math.log(4), abs=1e-4)
    # two ids only: {0, 1} on both sides
    assert agreement(student[:1], head, LiveTargets(teacher[:1], head), top_k=2, vocab_size=2).overlap.item() == 1
    stored = TopKTargets(torch.tensor([[3, 0]]), torch.zeros(1, 2), torch.zeros(1))
    assert agreement(student[:1], head, stored, top_k=5).overlap.item() == 0.5  # of the two that it has
    nothing = agreement(student[:0], head, LiveTargets(teacher[:0], head), top_k=2)
    assert nothing.overlap.shape == nothing.entropy.shape == (0,)
