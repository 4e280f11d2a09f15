"""Ended rows leave the batch, and nothing else changes."""

from functools import wraps

import pytest
import torch
from tiny import tiny_model
from transformers import GenerationConfig

from hf_reason.generation import generate_cot
from hf_reason.generation.batching import generate_ids, pad_left
from hf_reason.generation.settings import only_asked_for
from hf_reason.generation.shrinking import _OF_A_CALL, can_shrink, generate_shrinking

STOPS = list(range(5, 60))  # so many ids end a row that rows end at all times


def config_of(tokens=40, **more):
    config = GenerationConfig()
    config.update(max_new_tokens=tokens, eos_token_id=STOPS, pad_token_id=0, use_cache=True, **more)
    return config


def prompts_of(tokenizer, rows=24):
    torch.manual_seed(1)
    size = len(tokenizer)
    return [torch.randint(60, size, (3 + number % 7,)).tolist() for number in range(rows)]


def own(row):
    """Up to the first stop id, inclusive."""
    end = next((place for place, token in enumerate(row) if token in STOPS), len(row) - 1)
    return row[: end + 1]


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2", "gemma2", "mistral", "qwen3_moe"])
def test_the_same_tokens_with_fewer_rows(kind, tokenizer, monkeypatch):
    model = tiny_model(tokenizer, kind).eval()
    if kind == "mistral":
        model.config.sliding_window = 8
    ids, mask = pad_left(prompts_of(tokenizer), 0)
    with torch.no_grad(), only_asked_for(model):
        whole = model.generate(input_ids=ids, attention_mask=mask, generation_config=config_of())[:, ids.shape[1] :]
    sizes = []
    forward = model.forward

    @wraps(forward)  # `generate` reads its signature
    def counted(*args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    with torch.no_grad(), only_asked_for(model):
        rows = generate_shrinking(model, ids, mask, config_of(), STOPS)
    assert [own(row) for row in rows] == [own(row) for row in whole.tolist()]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 2, "rows leave"
    assert len(sizes) <= whole.shape[1], "nothing is read twice"
    assert sum(sizes) < 0.8 * whole.numel()


def test_without_it_for_models_that_know_more_of_a_row(tokenizer):
    from tiny import tiny_step_reasoner

    assert can_shrink(tiny_model(tokenizer, "qwen2"), config_of())
    assert not can_shrink(tiny_step_reasoner(tokenizer), config_of())
    assert not can_shrink(tiny_model(tokenizer, "qwen2"), config_of(min_new_tokens=3))
    assert not can_shrink(tiny_model(tokenizer, "qwen2"), config_of(num_beams=2))
    assert all(hasattr(GenerationConfig(), name) for name in _OF_A_CALL)


@pytest.mark.parametrize("sampled", [False, True])
def test_many_processes_or_one_many_rows_or_few(tokenizer, sampled, monkeypatch):
    """`generate_ids` gives each prompt its own output; greedily those of a batch of one."""
    model = tiny_model(tokenizer, "qwen2")
    prompts = prompts_of(tokenizer)
    config = config_of(**({"do_sample": True} if sampled else {}))
    found = generate_ids(model, prompts, config, batch_size=24)
    assert found == generate_ids(model, prompts, config, batch_size=24)
    if not sampled:
        assert found == generate_ids(model, prompts, config, batch_size=1)


def test_budgets_stay_with_their_rows(tokenizer):
    """Forced ends of thoughts and answers come at the same places as with a row alone."""
    model = tiny_model(tokenizer, "qwen2")
    questions = [f"{number}+{number}=?" * (1 + number % 3) for number in range(16)]
    # many ids end an answer, so that rows end at all times
    stops = list(range(60, len(tokenizer), 8))
    options = {"max_thought_tokens": 12, "max_answer_tokens": 40, "generation_kwargs": {"eos_token_id": stops}}
    together = generate_cot(model, tokenizer, questions, batch_size=16, **options)
    alone = generate_cot(model, tokenizer, questions, batch_size=1, **options)
    assert [(row.thought, row.answer, row.closed_by, row.ended) for row in together] == [
        (row.thought, row.answer, row.closed_by, row.ended) for row in alone
    ]
    assert len({row.answer_tokens for row in together}) > 4 and any(row.closed_by != "model" for row in together)


@pytest.mark.parametrize("kind", ["qwen3_next", "mamba", "bloom", "falcon_alibi"])
def test_other_caches_and_positions(kind, tokenizer):
    """States that have no rows to take out are read again; positions may hang on the mask."""
    hybrid = {"layer_types": ["linear_attention", "full_attention"]} if kind == "qwen3_next" else {}
    model = tiny_model(tokenizer, kind, **hybrid).eval()
    prompts = prompts_of(tokenizer)
    found = generate_ids(model, prompts, config_of(20), batch_size=24)
    assert found == generate_ids(model, prompts, config_of(20), batch_size=1)
