"""LoAR at the grain of query heads: exact against the base, its cache, its training, its choice of heads."""

import copy

import pytest
import torch
from loar_models import batch, routed
from transformers import AutoConfig, AutoModelForCausalLM

from hf_reason import LoAR, LoARConfig, apply_loar, calibrate_routers, search_budgets
from hf_reason.models.loar import hooks
from hf_reason.models.loar.heads import HeadChoice
from hf_reason.models.peft_adapters import AdapterError

HEADS, GROUPS = 6, 2  # three query heads on each key/value head
SHAPE = {
    "vocab_size": 90,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "max_position_embeddings": 256,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "head_dim": 4,
    "sliding_window": None,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def _model(kind="qwen2", **fields):
    """With biases that are not 0, and norms that are not 1."""
    torch.manual_seed(0)
    if kind == "ministral":
        fields = {"sliding_window": 64, **fields}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **fields})).eval()
    for name, parameter in model.named_parameters():
        if "self_attn" in name and parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif "self_attn" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def _heads(model, **fields):
    return routed(model, **{"grain": "heads", **fields})


def _prompt(ids, length=16):
    return {hooks.PROMPT_MASK: (torch.arange(ids.shape[1]) < length).expand(ids.shape[0], -1)}


def _zeroed(model, off):
    """A copy of the base whose output projections have no columns for these heads of each layer."""
    plain = copy.deepcopy(model)
    if hasattr(plain, "loar"):
        plain.loar.unload()
    with torch.no_grad():
        for layer, heads in zip(plain.model.layers, off, strict=True):
            width = layer.self_attn.head_dim
            for head in heads:
                layer.self_attn.o_proj.weight[:, head * width : (head + 1) * width] = 0
    return plain


def _stepwise(model, ids, mask, start):
    """The logits of the tokens after `start`, read one by one; and the cache."""
    output = model(ids[:, :start], attention_mask=mask[:, :start], use_cache=True)
    steps, cache = [output.logits[:, -1]], output.past_key_values
    for place in range(start, ids.shape[1]):
        more = {"attention_mask": mask[:, : place + 1], "past_key_values": cache, "use_cache": True}
        steps.append(model(ids[:, place : place + 1], **more).logits[:, -1])
    return torch.stack(steps, dim=1), cache


def _off(choice):
    return [sorted(set(range(HEADS)) - set(heads)) for heads in choice]


@pytest.mark.parametrize("kind", hooks.KINDS)
@torch.no_grad()
def test_every_type_all_heads_on_is_the_base_and_a_head_off_is_its_columns_zeroed(kind):
    model, (ids, mask) = _model(kind), batch(24)
    real, whole = mask.bool(), model(ids, attention_mask=mask).logits
    loar = apply_loar(model, LoARConfig(grain="heads", budget=1.0))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[real], whole[real], atol=1e-5, rtol=0)
    assert torch.equal(loar.unload()(ids, attention_mask=mask).logits, whole)
    static = [[0, 1, 3, 5], [4]]  # the second layer reads one group of two
    loar = apply_loar(model, LoARConfig(grain="heads", static_groups=static))
    expected = _zeroed(model, _off(static))(ids, attention_mask=mask).logits
    assert (expected[real] - whole[real]).abs().max() > 1e-2
    found = model(ids, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    for rows in (1, 3):
        stepped, cache = _stepwise(model, ids[:rows], mask[:rows], 16)
        torch.testing.assert_close(stepped, expected[:rows, 15:], atol=1e-5, rtol=1e-5)
        assert [layer.keys.shape[1] for layer in cache.layers] == [2, 1]
        assert [a.loar.sliced for a in loar._layers] == [rows == 1] * 2
    one = model(ids[:1, :4], use_cache=True).past_key_values.layers
    widths = [[layer.projections[name][0].shape for name in hooks.PROJECTIONS] for layer in one]
    assert widths == [[(16, 24), (8, 24), (8, 24), (24, 16)], [(4, 24), (4, 24), (4, 24), (24, 4)]]


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral"])
@torch.no_grad()
def test_rows_choose_differently_and_decode_as_they_read(kind, window):
    """Each row as the base with its own heads' columns zeroed; the window is the model's own (mistral) or LoAR's."""
    own = {"sliding_window": window} if kind == "mistral" else {}
    model, (ids, mask) = _model(kind, **own), batch(24)
    base = copy.deepcopy(model)
    loar = _heads(model, **({} if kind == "mistral" else {"sliding_window": window, "window_layers": "all"}))
    whole = model(ids, attention_mask=mask, use_cache=False, **_prompt(ids)).logits
    chosen = [attention.loar.heads.heads.tolist() for attention in loar._layers]
    assert all(len({tuple(row) for row in layer}) > 1 for layer in chosen)
    near = torch.arange(24)[None] > torch.arange(24)[:, None] - (window or 99)
    causal = (torch.arange(24)[None] <= torch.arange(24)[:, None]) & near
    for row in range(3):
        start = int((mask[row] == 0).sum())
        plain = _zeroed(base, _off([layer[row] for layer in chosen]))
        own_mask = causal[: 24 - start, : 24 - start][None, None]
        if window is None or kind == "mistral":
            own_mask = None
        expected = plain(ids[row : row + 1, start:], attention_mask=own_mask, use_cache=False).logits
        torch.testing.assert_close(whole[row : row + 1, start:], expected, atol=1e-5, rtol=1e-5)
    for rows in (1, 3):
        stepped, cache = _stepwise(model, ids[:rows], mask[:rows], 16)
        torch.testing.assert_close(stepped, whole[:rows, 15:], atol=1e-5, rtol=1e-5)
    read = [max(len({head // 3 for head in row}) for row in layer) for layer in chosen]
    assert [layer.keys.shape[1] for layer in cache.layers] == read
    assert [layer.keys.shape[2] for layer in cache.layers] == [24 if window is None else window - 1] * 2


@torch.no_grad()
def test_a_group_without_heads_leaves_the_cache_of_a_row():
    model, (ids, _) = _model(), batch(24)
    loar = apply_loar(model, LoARConfig(grain="heads", budget=[2, 4], shared_groups=0))
    for router, best in zip(loar.routers.routers, ([3, 5], [1, 2, 3, 4]), strict=True):
        router.weight.zero_()
        router.bias.copy_(torch.tensor([1.0 if head in best else -1.0 for head in range(HEADS)]))
    cache = model(ids[:1], use_cache=True).past_key_values
    assert [layer.groups.tolist() for layer in cache.layers] == [[[1]], [[0, 1]]]
    assert [layer.keys.shape for layer in cache.layers] == [(1, 1, 24, 4), (1, 2, 24, 4)]
    half, full = (layer.num_bytes() for layer in cache.layers)
    assert 2 * half == full
    cache.batch_repeat_interleave(3)
    cache.reorder_cache(torch.tensor([2, 0]))
    assert cache.layers[1].heads.heads.tolist() == [[1, 2, 3, 4]] * 2 and cache.layers[1].heads.places.shape == (2, 4)
    cache.reset()
    assert cache.layers[0].heads is None


def test_the_places_of_a_choice():
    choice = HeadChoice.of(torch.tensor([[0, 2, 3], [6, 7, 8], [1, 4, 7]]), size=3, count=4)
    assert (
        choice.groups.shape == (3, 3) and choice.room == 3
    )  # the third row reads three groups, the second one head's
    assert choice.groups[2].tolist() == [0, 1, 2]
    at = choice.groups.gather(1, choice.slots)
    assert at.tolist() == [[0, 0, 1], [2, 2, 2], [0, 1, 2]]
    assert all(len(set(row)) == 3 for row in choice.places.tolist())
    assert (choice.places // choice.room).equal(choice.slots)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_generate_in_a_left_padded_batch_equals_its_rows(options):
    model, (ids, mask) = _model(), batch(24)
    _heads(model)
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    together = model.generate(ids, attention_mask=mask, **settings)[:, 24:]
    for row in range(3):
        start = int((mask[row] == 0).sum())
        alone = model.generate(ids[row : row + 1, start:], attention_mask=mask[row : row + 1, start:], **settings)
        assert alone[0, 24 - start :].tolist() == together[row].tolist()


def test_heads_that_are_off_learn_and_the_budget_falls():
    model, (ids, mask) = _model(), batch(24)
    loar = _heads(model, balance_weight=0.0)
    model.train()
    loss = model(ids, attention_mask=mask, labels=ids, use_cache=False).loss
    gates = [attention.loar.gates.detach() for attention in loar._layers]
    assert all(gate.sum(dim=1).tolist() == [3, 3, 3] for gate in gates)
    loss.backward()
    for layer, gate in enumerate(gates):
        gradient = loar.routers.routers[layer].bias.grad
        never = (gate == 0).all(dim=0)
        assert never.any() and (gradient[never] != 0).all()
        assert gradient[0] == 0  # the shared one
    loar.update_usage()
    assert loar.routers.usage.shape == (2, HEADS)
    loar.config.anneal_ratio = 0.5
    falling = []
    for loar.progress in (0.0, 0.25, 0.5):
        falling.append(loar.budget_now(0))
    assert falling == [6, 5, 3]


def test_save_and_load(tmp_path):
    model, (ids, mask) = _model(), batch(24)
    loar = _heads(model, budget=0.6)
    assert loar.budgets == [4, 4]  # 7.2 of 12
    loar.set_budgets([5, 2])
    expected = model(ids, attention_mask=mask).logits
    loar.save_pretrained(tmp_path)
    again = LoAR.from_pretrained(_model(), tmp_path)
    assert torch.equal(again(ids, attention_mask=mask).logits, expected)
    assert again.loar.budgets == [5, 2] and again.loar.config.grain == "heads"
    with pytest.raises(AdapterError, match="does not fit this model"):
        LoAR.from_pretrained(_model(num_attention_heads=4), tmp_path)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"grain": "head"}, {}, "grain must be one of groups, heads"),
        ({"grain": "heads", "budget": [1, 7]}, {}, "2 layers of 6 heads"),
        ({"grain": "heads", "static_groups": [[0], [6]]}, {}, "different heads from 0 to 5"),
        ({"grain": "heads", "budget": 0.95}, {}, "2 query heads needs budget=0.9166 or less"),
        ({}, {}, "needs budget=0.5 or less .*; grain='heads' routes the 6 query heads of a layer, at budget=0.75"),
        ({}, {"num_key_value_heads": 1}, "cannot be routed by groups; grain='heads' routes the 6 query heads"),
        ({"budget": 0.7}, {"num_key_value_heads": 3}, "needs budget=0.6666 or less"),
    ],
)
def test_what_changes_nothing_or_does_not_fit_is_refused(fields, shape, message):
    with pytest.raises(ValueError, match=message):
        apply_loar(_model(**shape), LoARConfig(**fields))


def _examples(model, count):
    """Chains that the model writes itself: eight tokens of prompt, sixteen of its own sampling."""
    torch.manual_seed(4)
    found = []
    for _ in range(count):
        ids = torch.randint(2, 90, (1, 8))
        ids = model.generate(ids, max_new_tokens=16, do_sample=True, eos_token_id=None, pad_token_id=0)[0].tolist()
        found.append({"input_ids": ids, "labels": [-100] * 8 + ids[8:]})
    return found


def _loud(model, layer, heads, factor):
    with torch.no_grad():
        for head in heads:
            model.model.layers[layer].self_attn.o_proj.weight[:, head * 4 : head * 4 + 4] *= factor


def test_calibration_scores_heads_together_and_spreads_the_budget_over_the_model():
    model = _model()
    _loud(model, 0, (3, 4, 5), 0.0)
    _loud(model, 1, (0,), 0.0)
    examples = _examples(model, 3)
    loar = apply_loar(model, LoARConfig(grain="heads", budget=8 / 12))
    assert loar.budgets == [4, 4]
    model.train()
    scores = calibrate_routers(model, examples)
    assert scores.shape == (2, HEADS) and model.training and loar.probe is None
    assert loar.budgets == [3, 5] and loar.config.budget == [3, 5]  # as many heads as there were, where they matter
    for layer, best in enumerate(({0, 1, 2}, {1, 2, 3, 4, 5})):
        bias = loar.routers.routers[layer].bias
        assert set(bias.topk(len(best)).indices.tolist()) == best and not loar.routers.routers[layer].weight.any()
        assert loar.routers.shared[layer].item() == bias.argmax() and bias.abs().max() == 2
    model.eval()
    base = copy.deepcopy(model).loar.unload()
    ids = torch.tensor([examples[0]["input_ids"]])
    torch.testing.assert_close(model(ids).logits, base(ids).logits, atol=1e-5, rtol=1e-5)
    loar.set_budgets([4, 2])
    calibrate_routers(model, examples)
    assert loar.budgets == [4, 2]  # the user's own numbers stay


def test_a_score_is_the_mean_size_of_the_gradient_at_the_gate():
    """By a plain formula: the base with a factor on each head's output, its gradient by finite differences."""
    model = _model()
    examples = _examples(model, 2)
    for example in examples[1:]:
        example["labels"][8:14] = [-100] * 6  # ten targets
    base = copy.deepcopy(model).double()
    loar = apply_loar(model, LoARConfig(grain="heads", budget=0.9))
    scores = calibrate_routers(model, examples)
    assert scores.shape == (2, HEADS) and (scores > 0).all()

    def loss(layer, head, factor, example):
        changed = copy.deepcopy(base)
        _loud(changed, layer, [head], factor)
        labels = torch.tensor([example["labels"]])
        return changed(torch.tensor([example["input_ids"]]), labels=labels, use_cache=False).loss.item()

    for layer, head in ((0, 1), (1, 4)):
        expected = 0.0
        for example, targets in zip(examples, (16, 10), strict=True):
            slope = (loss(layer, head, 1.01, example) - loss(layer, head, 0.99, example)) / 0.02
            expected += abs(slope) * targets**0.5 / 2
        assert scores[layer, head].item() == pytest.approx(expected, rel=1e-2)
    assert sum(loar.budgets) == 11


def test_the_search_moves_heads_between_layers_at_the_same_cost():
    model = _model()
    _loud(model, 1, range(HEADS), 0.0)
    _loud(model, 0, range(HEADS), 3.0)
    examples = _examples(model, 8)
    loar = _heads(model, budget=0.5)
    result = search_budgets(model, examples, population=6, generations=4)
    assert sum(result.budgets) == 6 and result.cost == 1 and result.better
    assert result.budgets == [5, 1] and loar.budgets == [5, 1]
