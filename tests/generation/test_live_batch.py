"""Chains that join and leave a running batch: the same as alone, for every architecture."""

from functools import partial

import pytest
import torch
from chat_templates import R1_TEMPLATE
from tiny import tiny_model, tiny_qwen2, tiny_step_reasoner

from hf_reason import LoARConfig, apply_loar
from hf_reason.generation.budgets import BudgetRow, Frame
from hf_reason.generation.live import LiveBatch, LiveChain, Sampling, run_batch
from hf_reason.generation.settings import generation_config
from hf_reason.text import build_prompt
from hf_reason.text.render import opened_by_prompt
from hf_reason.text.spans import prompt_token_ids


def _chains(tokenizer, config, records, **options):
    chains = []
    for record in records:
        text = build_prompt({"context": record["context"]}, tokenizer)
        frame = Frame.of(tokenizer, opened_by_prompt(text), config.eos_token_id)
        ids = prompt_token_ids(text, tokenizer)
        chains.append(LiveChain(ids, BudgetRow(frame, 20, 10), Sampling(**options), lambda *_: None))
    return chains


def _routed(tokenizer):
    model = tiny_qwen2(tokenizer, num_attention_heads=4, num_key_value_heads=4)
    apply_loar(model, LoARConfig(budget=0.5))
    for router in model.loar.routers.parameters():  # new routers choose alike for every prompt
        torch.nn.init.normal_(router, std=2.0)
    return model


# positions that are rotated, learned and slopes of the attention
DECODERS = {"decoder": tiny_qwen2, **{kind: partial(tiny_model, model_type=kind) for kind in ("gpt2", "bloom")}}
MODELS = {**DECODERS, "loar": _routed, "steps": tiny_step_reasoner}


SAMPLED = {"temperature": 1.2, "top_p": 0.9, "seed": 5}


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize(("kind", "sampling"), [*((kind, {}) for kind in MODELS), ("decoder", SAMPLED)])
def test_a_chain_is_the_same_alone_and_among_others(tokenizer, records, kind, sampling, keeps):
    model = MODELS[kind](tokenizer).eval()
    config = generation_config(model, tokenizer, max_new_tokens=1)
    alone = _chains(tokenizer, config, records[:3], **sampling)
    for chain in alone:
        run_batch(model, tokenizer, config, [chain], lambda tokens: False)
    joined = _chains(tokenizer, config, records[:3], **sampling)
    running, waiting, kept = joined[:1], joined[1:], None
    while running:
        kept = run_batch(model, tokenizer, config, running, lambda tokens: tokens == 3, kept if keeps else None)
        assert kept is not None or kind not in DECODERS
        running = [chain for chain in running if not chain.over] + waiting[:1]
        waiting = waiting[1:]
    assert [chain.ids for chain in joined] == [chain.ids for chain in alone]
    assert all(0 < chain.budget.thought <= 20 and chain.budget.answer <= 10 for chain in joined)


def test_nothing_is_read_twice_and_no_padding_is_kept(tokenizer, records):
    """Rows that go on, leave and join: every token of every chain goes through the model once."""
    model, read = tiny_qwen2(tokenizer).eval(), []
    config = generation_config(model, tokenizer, max_new_tokens=1)
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    chains = _chains(tokenizer, config, sorted(records[:4], key=lambda record: -len(record["context"])))
    kept = run_batch(model, tokenizer, config, chains[:2], lambda tokens: tokens == 3)
    chains[0].cancelled = True  # the longest leaves
    kept = run_batch(model, tokenizer, config, [chains[1], chains[3]], lambda tokens: tokens == 2, kept)
    assert [chain is other for chain, other in zip(kept.chains, (chains[1], chains[3]), strict=True)] == [True, True]
    longest = max(len(chain.prompt_ids + chain.ids) for chain in (chains[1], chains[3]))
    assert kept.ids.shape == kept.mask.shape == (2, longest) and kept.past.get_seq_length() == longest - 1
    # a new chain is read with the tokens that open its thought
    prompts = [len(chain.prompt_ids) + len(chain.budget.frame.opening) for chain in chains]
    widths = [max(prompts[:2]), 1, 1, prompts[3], 1, 1]
    assert read == [(rows, width) for rows, width in zip((2, 2, 2, 1, 2, 2), widths, strict=True)]


@pytest.mark.parametrize(
    "kind", ["mistral", "gemma3_text", "falcon_mamba", pytest.param("qwen3_5_text", marks=pytest.mark.slow)]
)
def test_a_cache_that_is_more_than_keys_and_values_is_not_kept(tokenizer, records, kind):
    """Sliding windows have other lengths, linear attention and Mamba a state: the rows are read again."""
    options = (
        {"num_hidden_layers": 4} if kind == "qwen3_5_text" else {"sliding_window": 8} if "mamba" not in kind else {}
    )
    model = tiny_model(tokenizer, kind, **options).eval()
    config = generation_config(model, tokenizer, max_new_tokens=1)
    (alone,) = _chains(tokenizer, config, records[:1])
    run_batch(model, tokenizer, config, [alone], lambda tokens: False)
    joined = _chains(tokenizer, config, records[:2])
    kept = run_batch(model, tokenizer, config, joined[:1], lambda tokens: tokens == 3)
    assert kept is None
    while running := [chain for chain in joined if not chain.over]:
        kept = run_batch(model, tokenizer, config, running, lambda tokens: tokens == 5, kept)
    assert joined[0].ids == alone.ids


def test_a_cancelled_chain_ends_and_the_others_do_not_notice(tokenizer, records):
    model = tiny_qwen2(tokenizer).eval()
    config = generation_config(model, tokenizer, max_new_tokens=1)
    (alone,) = _chains(tokenizer, config, records[:1])
    run_batch(model, tokenizer, config, [alone], lambda tokens: False)
    kept, dropped = _chains(tokenizer, config, records[:2])

    def cancel(chain, token, thought):
        chain.cancelled = len(chain.ids) == 4

    dropped.on_token = cancel
    run_batch(model, tokenizer, config, [kept, dropped], lambda tokens: False)
    assert kept.ids == alone.ids and len(dropped.ids) == 4 and dropped.over and not dropped.budget.done


def test_limits_of_a_row_are_its_own(tokenizer, records):
    model = tiny_qwen2(tokenizer).eval()
    config = generation_config(model, tokenizer, max_new_tokens=1)
    chains = _chains(tokenizer, config, records[:3])
    for chain, (thought, answer, total) in zip(chains, [(8, 10, 99), (20, 2, 99), (20, 50, 24)], strict=True):
        chain.budget.max_thought_tokens, chain.budget.max_answer_tokens = thought, answer
        chain.budget.max_tokens, chain.blank = total, True
    run_batch(model, tokenizer, config, chains, lambda tokens: False)
    assert all(chain.budget.thought <= most for chain, most in zip(chains, (8, 20, 20), strict=True))
    assert chains[1].budget.answer == 2 and len(chains[2].ids) == 24


def test_top_p_and_penalties_shape_the_draw(tokenizer, records):
    from hf_reason.generation.live import _draw, _penalise

    (chain,) = _chains(tokenizer, generation_config(tiny_qwen2(tokenizer), tokenizer, max_new_tokens=1), records[:1])
    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))

    def drawn(**options):
        chain.sampling, chain.generator = Sampling(temperature=1.0, **options), None
        return torch.bincount(torch.tensor([_draw(chain, scores) for _ in range(2000)]), minlength=4) / 2000

    assert torch.allclose(drawn(), torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.04)
    assert torch.allclose(drawn(top_p=0.75), torch.tensor([0.625, 0.375, 0, 0]), atol=0.04)  # 0.5 alone is below 0.75
    assert torch.allclose(drawn(top_k=3), torch.tensor([0.5, 0.3, 0.15, 0]) / 0.95, atol=0.04)
    chain.sampling = Sampling(temperature=5e-324)
    assert _draw(chain, torch.tensor([1.0, -torch.inf, 3.0, 2.0])) == 2
    chain.counts.update([1, 1, 3])
    chain.sampling = Sampling(frequency_penalty=0.5, presence_penalty=0.25)
    values = scores.clone()
    _penalise(chain, values)
    assert torch.allclose(values - scores, torch.tensor([0.0, -1.25, 0.0, -0.75]), atol=1e-6)


@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_opening_is_read_with_the_prompt_and_changes_nothing(tokenizer, records, kind, sampling):
    """A chain that records log-probabilities writes each token of its opening: both ways give the same chain."""
    tokenizer.chat_template = R1_TEMPLATE
    model, read = MODELS[kind](tokenizer).eval(), []
    config = generation_config(model, tokenizer, max_new_tokens=1)
    said: list[list[tuple[int, bool]]] = []
    chains = [_chains(tokenizer, config, records[:2], **sampling) for _ in range(2)]
    for asked, ways in zip((None, 0), chains, strict=True):
        for chain in ways:
            said.append([])
            chain.num_logprobs = asked
            chain.on_token = lambda chain, token, thought, said=said[-1]: said.append((token, thought))
    opening = len(chains[0][0].budget.frame.opening)
    assert opening == chains[0][0].budget.opening > 0
    if kind in DECODERS:
        model.register_forward_pre_hook(lambda *call: read.append(call[2]["input_ids"].shape[1]), with_kwargs=True)
    for ways in chains:
        run_batch(model, tokenizer, config, ways, lambda tokens: False)
    assert [chain.ids for chain in chains[0]] == [chain.ids for chain in chains[1]]
    assert said[:2] == said[2:] and all(thought for _, thought in said[0][:opening])
    assert [chain.budget.thought for chain in chains[0]] == [chain.budget.thought for chain in chains[1]]
    if kind in DECODERS:
        longest = max(len(chain.prompt_ids) for chain in chains[0])
        assert read[0] == longest + opening and longest in read[1:]


def test_a_thought_that_ends_at_once_is_told_in_order(tokenizer, records):
    """The model's first token closes the thought: what was read with the prompt is still told as its beginning."""
    tokenizer.chat_template = R1_TEMPLATE
    model = tiny_qwen2(tokenizer).eval()
    config = generation_config(model, tokenizer, max_new_tokens=1)
    (chain,) = _chains(tokenizer, config, records[:1])
    said = []
    chain.on_token = lambda chain, token, thought: said.append((token, thought, chain.budget.thinks))
    chain.open_with_prompt(model)
    opening, closing = list(chain.budget.frame.opening), list(chain.budget.frame.closing)
    batch = LiveBatch(tokenizer, [chain], lambda tokens: False)
    for token in closing:
        batch.advance([token])
    assert [token for token, _, _ in said] == opening + closing == chain.ids
    assert all(thought for _, thought, _ in said) and [open_ for *_, open_ in said].index(False) >= len(opening)
