"""LoAR on small models: gather equals mask, no leak, incremental equals full, cache, save, load, unload, refusals."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from hub_server import HubServer
from loar_models import batch as _batch
from loar_models import routed as _routed
from safetensors.torch import load_file, save_file
from tiny import TINY_STEP_SIZES
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hf_reason import LoAR, LoARConfig, apply_loar, calibrate_routers, search_budgets
from hf_reason.models.loar import hooks
from hf_reason.models.loar.attention import window_attention
from hf_reason.models.loar.cache import RoutedLayer
from hf_reason.models.loar.router import balance_term, choose_groups, straight_through
from hf_reason.models.long_context import set_sliding_window
from hf_reason.models.peft_adapters import AdapterError

SHAPE = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
KINDS = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}


def _model(kind="qwen2", **fields):
    config, cls, more = KINDS[kind]
    torch.manual_seed(0)
    return cls(config(**{**SHAPE, **more, **fields})).eval()


def _examples(count):
    """Encoded records of 8 tokens of prompt and 8 of completion."""
    torch.manual_seed(4)
    rows = [torch.randint(2, 90, (16,)).tolist() for _ in range(count)]
    return [{"input_ids": ids, "labels": [-100] * 8 + ids[8:]} for ids in rows]


def _prompt(ids, length):
    return (torch.arange(ids.shape[1]) < length).expand(ids.shape[0], -1)


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_groups_it_is_the_base_and_unload_gives_it_back(kind):
    model, (ids, mask) = _model(kind), _batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config, options = model.config.to_dict(), {"attention_mask": mask}
    expected = model(ids, **options).logits
    apply_loar(model, LoARConfig(budget=1.0))
    assert torch.equal(model(ids, **options).logits, expected)
    model.loar.unload()
    routed = _routed(model, **({"sliding_window": 5} if kind.startswith("qwen") else {}))
    assert not torch.allclose(model(ids, **options).logits[mask.bool()], expected[mask.bool()], atol=1e-3)
    assert routed.unload() is model and not hasattr(model, "loar")
    assert torch.equal(model(ids, **options).logits, expected)
    assert model.config.to_dict() == config and model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_gathering_groups_equals_masking_them(kind):
    """Same logits as attention with the unused heads set to 0, by hooks on the output projections."""
    model, (ids, mask) = _model(kind), _batch()
    reference = copy.deepcopy(model)
    loar = _routed(model)
    prompt = _prompt(ids, 20)
    with torch.no_grad():
        found = model(ids, attention_mask=mask, use_cache=False, loar_prompt_mask=prompt).logits
        chosen = [attention.loar.groups for attention in loar._layers]
        assert any(len({tuple(row) for row in groups.tolist()}) > 1 for groups in chosen)  # rows chose differently
        for layer, groups in zip(reference.model.layers, chosen, strict=True):
            on = torch.zeros(3, 4).scatter(1, groups, 1.0).repeat_interleave(2, dim=1)  # two query heads a group

            def switch_off(module, arguments, on=on):
                heads = arguments[0].view(*arguments[0].shape[:2], 8, -1)
                return ((heads * on[:, None, :, None]).flatten(2),)

            layer.self_attn.o_proj.register_forward_pre_hook(switch_off)
        expected = reference(ids, attention_mask=mask, use_cache=False).logits
        model.train()
        gated = model(ids, attention_mask=mask, use_cache=False, loar_prompt_mask=prompt).logits
    real = mask.bool()
    assert torch.allclose(found[real], expected[real], atol=1e-5)
    assert torch.allclose(gated[real], expected[real], atol=1e-5)


@pytest.mark.parametrize("how", ["labels", "mask", "marker"])
def test_the_answer_does_not_change_the_routing(how):
    model = _model()
    ids, _ = _batch()
    ids[:, 18:20] = torch.tensor([5, 6])  # the marker
    ids[:, :18] = ids[:, :18].clamp(min=10)
    loar = _routed(model, prompt_end_ids=[5, 6])
    labels = ids.clone()
    labels[:, :20] = -100
    options = {"labels": {"labels": labels}, "mask": {"loar_prompt_mask": _prompt(ids, 20)}, "marker": {}}[how]
    if how != "marker":
        loar.config.prompt_end_ids = []

    def routing(ids, **options):
        with torch.no_grad():
            logits = model(ids, use_cache=False, **options).logits
        return [attention.loar.groups.tolist() for attention in loar._layers], logits

    before, logits = routing(ids, **options)
    other = ids.clone()
    other[:, 20:] = torch.randint(10, 90, (3, 10))
    changed, moved = routing(other, **options)
    assert changed == before and torch.equal(logits[:, :20], moved[:, :20])
    assert routing(ids, loar_prompt_mask=_prompt(ids, 20))[0] == before  # the three ways agree
    other[:, :18] = torch.randint(10, 90, (3, 18))
    assert routing(other, **options)[0] != before


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_decoding_step_by_step_equals_the_whole_text(kind, rows, window):
    """With one row the projections are cut, too; with a window the cache is."""
    model, (ids, mask) = _model(kind), _batch()
    _routed(model, sliding_window=window)
    ids, mask = ids[:rows], mask[:rows]
    with torch.no_grad():
        whole = model(ids, attention_mask=mask, use_cache=False, loar_prompt_mask=_prompt(ids, 20)).logits
        output = model(ids[:, :20], attention_mask=mask[:, :20], use_cache=True)
        steps = [output.logits[:, -1]]
        for place in range(20, 30):
            output = model(
                ids[:, place : place + 1],
                attention_mask=mask[:, : place + 1],
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            steps.append(output.logits[:, -1])
    assert torch.allclose(torch.stack(steps, dim=1), whole[:, 19:], atol=1e-5)
    cache = output.past_key_values
    assert [layer.keys.shape[1] for layer in cache.layers] == [2, 2, 2]  # two of four groups
    held = [layer.keys.shape[2] for layer in cache.layers]
    assert held == [30, 30, 30] if window is None else held == [5, 30, 30]
    assert (cache.layers[0].projections is not None) == (rows == 1)


def test_budgets_are_respected_in_each_layer():
    model, (ids, mask) = _model(), _batch()
    loar = _routed(model, budget=[1, 2, 4], shared_groups=1)
    with torch.no_grad():
        cache = model(ids, attention_mask=mask, use_cache=True).past_key_values
    assert [layer.keys.shape[1] for layer in cache.layers] == [1, 2, 4]
    assert all((layer.groups[:, 0] == 0).all() for layer in cache.layers)  # the shared one
    assert [loar.budget_now(layer) for layer in range(3)] == [1, 2, 4]
    loar.config.anneal_ratio = 0.5
    model.train()
    falling = []
    for loar.progress in (0.0, 0.1, 0.25, 0.4, 0.5, 0.9):
        falling.append(loar.budget_now(0))
    assert falling == [4, 4, 3, 2, 1, 1]


WINDOWS = [(5, 23, 0), (5, 1, 4), (5, 1, 2), (5, 3, 2), (8, 30, 7), (40, 12, 3), (40, 12, 0), (1, 6, 0), (2, 7, 3)]


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize(("window", "queries", "past"), WINDOWS)
def test_windows_in_blocks_equal_a_mask(window, queries, past, present):
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, length, 4) for heads, length in ((4, queries), (2, queries + past), (2, queries + past))
    )
    mask = torch.ones(2, queries + past, dtype=torch.bool)
    if present:
        mask[0, : past + 1] = False
    found = window_attention(query, key, value, mask if present else None, window, 2)
    at = torch.arange(queries + past)[None] - (torch.arange(queries)[:, None] + past)
    allowed = ((at <= 0) & (at > -window))[None, None] & mask[:, None, None]
    rows = allowed.any(dim=-1)[:, 0]
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) / 2
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    expected = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    assert torch.allclose(found[rows], expected[rows], atol=1e-6)


def test_a_window_is_that_of_transformers():
    model, (ids, mask) = _model(), _batch()
    plain = copy.deepcopy(model)
    set_sliding_window(plain, 6, "shallow_half")
    loar = apply_loar(model, LoARConfig(budget=1.0, sliding_window=6))
    assert loar.window_layers == [0]
    with torch.no_grad():
        found, expected = (m(ids, attention_mask=mask).logits for m in (model, plain))
    assert torch.allclose(found[mask.bool()], expected[mask.bool()], atol=1e-5)
    loar.set_window_layers([1, 2])
    assert loar.window_layers == [1, 2] and [a.loar.window for a in loar._layers] == [None, 6, 6]


@pytest.mark.parametrize("kind", hooks.KINDS)
def test_each_type_that_is_let_in_is_computed_exactly(kind):
    """All groups are the base; a window on all layers is the base under that mask; one sliced row is its full pass."""
    torch.manual_seed(0)
    fields = {
        **SHAPE,
        "num_hidden_layers": 2,
        "head_dim": 4,
        "num_experts": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "sliding_window": None,
    }
    if kind == "ministral":  # has windows always
        fields["sliding_window"] = 64
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields)).eval()
    ids, mask = _batch()
    at = torch.arange(30)
    near = (at[None] <= at[:, None]) & (at[None] > at[:, None] - 6)
    with torch.no_grad():
        whole = model(ids, attention_mask=mask).logits
        narrow = model(ids[:1], attention_mask=near[None, None], use_cache=False).logits
        loar = apply_loar(model, LoARConfig(budget=1.0))
        assert torch.allclose(model(ids, attention_mask=mask).logits[mask.bool()], whole[mask.bool()], atol=1e-5)
        loar.unload()
        loar = apply_loar(model, LoARConfig(budget=1.0, sliding_window=6, window_layers="all"))
        assert torch.allclose(model(ids[:1]).logits, narrow, atol=1e-5)
        loar.unload()
        loar = _routed(model)
        prompt = {hooks.PROMPT_MASK: _prompt(ids[:1], 20)}
        full = model(ids[:1], use_cache=False, **prompt).logits
        cache = model(ids[:1, :20], use_cache=True).past_key_values
        assert all(layer.self_attn.loar.sliced for layer in model.model.layers)
        steps = [model(ids[:1, t : t + 1], past_key_values=cache).logits for t in range(20, 30)]
    assert torch.allclose(torch.cat(steps, dim=1), full[:, 20:], atol=1e-5)
    assert cache.layers[0].projections["q_proj"][0].shape == (16, 32)  # two groups of two heads of four


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("mistral", {"sliding_window": 6}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    ],
)
def test_the_models_own_windows_stay(kind, fields):
    model, (ids, mask) = _model(kind, **fields), _batch()
    with torch.no_grad():
        expected = model(ids, attention_mask=mask).logits
        plain = model(ids).logits
        loar = apply_loar(model, LoARConfig(budget=1.0))
        assert torch.allclose(model(ids, attention_mask=mask).logits[mask.bool()], expected[mask.bool()], atol=1e-5)
        cache = model(ids, use_cache=True).past_key_values
        assert torch.allclose(model(ids).logits, plain, atol=1e-5)
    assert loar.window_layers == [] and cache.layers[2].keys.shape[2] == 5
    loar.unload()
    apply_loar(model, LoARConfig(budget=1.0, sliding_window=9, window_layers="all"))
    assert [a.loar.window for a in model.loar._layers][2] == 6  # the narrower one


def test_the_bases_files_do_not_change(tmp_path):
    model = _model()
    model.save_pretrained(tmp_path / "before")
    _routed(model, sliding_window=6, task_names=["math"])
    model.save_pretrained(tmp_path / "after")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_a_pass_that_was_broken_off_leaves_nothing_behind():
    model, (ids, mask) = _model(), _batch()
    _routed(model)

    def interrupt(*_):
        raise KeyboardInterrupt

    with torch.no_grad():
        expected = model(ids, attention_mask=mask, use_cache=False).logits
        handle = model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(ids[:1], use_cache=True)
        handle.remove()
        assert torch.equal(model(ids, attention_mask=mask, use_cache=False).logits, expected)
        model(ids[:1], use_cache=True)
    assert all(getattr(a, name).rows is None for a in model.loar._layers for name in hooks.PROJECTIONS)


def test_generate_reads_the_whole_prompt_and_no_guess():
    """Of two marks the last ends the prompt; without one, guesses and texts without a cache are not read either."""
    model, (ids, _) = _model(), _batch()
    loar = _routed(model, prompt_end_ids=[5, 6])
    row = ids[:1].clamp(min=10)
    row[:, [3, 4, 12, 13]] = torch.tensor([5, 6, 5, 6])
    assert hooks.before_end(row, [5, 6]).sum() == 14 and hooks.before_end(row[:, 5:12], [5, 6]).all()
    loar.config.prompt_end_ids = []
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(row, **options)
    read = []
    pooled = loar._pooled
    loar._pooled = lambda states: (read.append(int(loar._prompt.sum())), pooled(states))[1]
    assert torch.equal(model.generate(row, use_cache=False, **options), expected)
    draft = _model(num_hidden_layers=1)
    assert torch.equal(model.generate(row, assistant_model=draft, **options), expected)
    assert set(read) == {30} and loar.prompt_length is None


def test_a_loop_of_ones_own_trains_the_routers_and_long_prompts_fit_float16(caplog):
    model, (ids, mask) = _model(), _batch()
    loar = _routed(model)
    model.train()
    model(ids, attention_mask=mask, labels=torch.where(_prompt(ids, 20), -100, ids)).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loar.parameters())
    loar._prompt = torch.ones(1, 9000, dtype=torch.bool)
    assert loar._pooled(torch.full((1, 9000, 32), 9.0, dtype=torch.float16)).tolist() == [[9.0] * 32]
    with torch.autocast("cpu", torch.bfloat16):
        assert loar.routers.routers[0](torch.ones(1, 32)).dtype == torch.float32
    model.eval()
    assert "reads this whole text as a prompt" not in caplog.text
    model(ids, use_cache=False)
    model(ids, use_cache=False)
    assert caplog.text.count("reads this whole text as a prompt") == 1


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
@pytest.mark.parametrize("window", [None, 6])
def test_generate_in_a_left_padded_batch_equals_its_rows(options, window):
    """Greedy, beams and samples: each row as if it were alone (where nothing is drawn)."""
    model, (ids, mask) = _model(), _batch()
    _routed(model, sliding_window=window)
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    torch.manual_seed(0)
    together = model.generate(ids, attention_mask=mask, **settings)[:, 30:]
    assert together.shape == (3 * settings.get("num_return_sequences", 1), 12)
    if settings["do_sample"]:
        return
    for row in range(3):
        start = int((mask[row] == 0).sum())
        alone = model.generate(ids[row : row + 1, start:], attention_mask=mask[row : row + 1, start:], **settings)
        assert alone[0, 30 - start :].tolist() == together[row].tolist()


# arguments: the base's folder, the adapter's folder or name, a batch, where the logits go, a name to push to
FRESH = """
import sys, torch
from transformers import AutoModelForCausalLM
from hf_reason import LoAR
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
ids, mask = torch.load(sys.argv[3])
loar = LoAR.from_pretrained(model, sys.argv[2]).loar
if sys.argv[5:]:
    print(loar.push_to_hub(sys.argv[5], private=True))
with torch.no_grad(), loar.task("math"):
    logits = model(ids, attention_mask=mask).logits
plain = loar.unload()(ids, attention_mask=mask).logits.detach()
torch.save((logits, plain, loar.budgets), sys.argv[4])
"""


def test_save_push_load_in_a_fresh_process_and_unload(tmp_path):
    model, (ids, mask) = _model(), _batch()
    model.save_pretrained(tmp_path / "base")
    loar = _routed(model, sliding_window=6, task_names=["finance", "math"])
    loar.set_budgets([2, 3, 1])
    with torch.no_grad(), loar.task("math"):
        expected = model(ids, attention_mask=mask).logits
    loar.save_pretrained(tmp_path / "loar")
    files = {"loar_config.json", "loar.safetensors"}
    assert {p.name for p in (tmp_path / "loar").iterdir()} == files
    model.save_pretrained(tmp_path / "again")  # the base's file has no weights of the adapter
    torch.save((ids, mask), tmp_path / "in.pt")
    plain_expected = loar.unload()(ids, attention_mask=mask).logits.detach()

    def fresh(adapter, env, *more):
        paths = [str(tmp_path / "base"), adapter, str(tmp_path / "in.pt"), str(tmp_path / "out.pt"), *more]
        done = subprocess.run(
            [sys.executable, "-c", FRESH, *paths], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        logits, plain, budgets = torch.load(tmp_path / "out.pt")
        assert torch.allclose(logits, expected, atol=1e-6) and budgets == [2, 3, 1]
        assert torch.equal(plain, plain_expected)

    with HubServer(tmp_path / "hub") as hub:
        fresh(str(tmp_path / "loar"), hub.env("member"), "tester/loar")
        assert files <= set(hub.files("tester/loar"))
        fresh("tester/loar", hub.env("stranger"))
    with pytest.raises(AdapterError, match="does not fit this model"):
        LoAR.from_pretrained(_model(hidden_size=64), tmp_path / "loar")
    with pytest.raises(AdapterError, match="holds no LoAR"):
        LoAR.from_pretrained(_model(), tmp_path / "base")
    with pytest.raises(AdapterError, match="nothing"):
        LoAR.from_pretrained(_model(), tmp_path / "nothing")
    with pytest.raises(AdapterError, match="3 layers of 4 groups|2 layers"):
        LoAR.from_pretrained(_model(num_hidden_layers=2), tmp_path / "loar")
    config, weights = (tmp_path / "loar" / name for name in ("loar_config.json", "loar.safetensors"))
    kept = config.read_text(), weights.read_bytes()
    tensors = load_file(weights)
    for name, value, message in (
        ("routers.shared", 9, "groups that the model does not have"),
        ("routers.routers.0.bias", float("nan"), "not finite"),
    ):
        save_file({**tensors, name: torch.full_like(tensors[name], value)}, weights)
        with pytest.raises(AdapterError, match=message):
            LoAR.from_pretrained(other := _model(), tmp_path / "loar")
        assert not hasattr(other, "loar") and other.config._attn_implementation == "sdpa"
    weights.write_bytes(kept[1])
    wrong = kept[0].replace('"budget": [', '"budget": ["x",')
    for text, message in (("null", "an object"), (wrong, "budget"), ("{", "JSON")):
        config.write_text(text)
        with pytest.raises(AdapterError, match=message):
            LoAR.from_pretrained(_model(), tmp_path / "loar")


def test_a_deep_copy_is_routed_by_itself():
    model = _model()
    plain = model(_batch()[0]).logits
    _routed(model, sliding_window=8)
    ids = _batch()[0]
    labels = ids.masked_fill(_prompt(ids, 12), -100)
    twin = copy.deepcopy(model)
    before = model(ids, labels=labels).logits
    torch.testing.assert_close(twin(ids, labels=labels).logits, before, rtol=0, atol=0)
    for router in twin.loar.routers.routers:
        torch.nn.init.normal_(router.weight)
    other = twin(ids, labels=labels).logits
    assert (other - before).abs().max() > 1e-3
    torch.testing.assert_close(model(ids, labels=labels).logits, before, rtol=0, atol=0)
    twin.loar.unload()
    torch.testing.assert_close(twin(ids).logits, plain, rtol=0, atol=0)
    torch.testing.assert_close(model(ids, labels=labels).logits, before, rtol=0, atol=0)
    model.loar.unload()
    torch.testing.assert_close(model(ids).logits, plain, rtol=0, atol=0)


def test_tasks_steer_the_router_and_an_unknown_one_is_none():
    model, (ids, mask) = _model(), _batch()
    loar = _routed(model, task_names=["finance", "math"])

    def groups(**options):
        with torch.no_grad():
            model(ids, attention_mask=mask, use_cache=False, **options)
        return [attention.loar.groups.tolist() for attention in loar._layers]

    none = groups()
    with loar.task("finance"):
        finance = groups()
    with loar.task("math"):
        math = groups()
    assert len({str(none), str(finance), str(math)}) == 3
    with loar.task("legal"):
        assert groups() == none
    with loar.task(["math", "finance", None]):
        mixed = groups()
    assert [layer[0] for layer in mixed] == [layer[0] for layer in math]
    assert [layer[1] for layer in mixed] == [layer[1] for layer in finance]
    assert [layer[2] for layer in mixed] == [layer[2] for layer in none]
    assert groups(loar_tasks=torch.tensor([1, 0, -1])) == mixed
    with loar.task(["math", "finance"]), pytest.raises(ValueError, match="2 tasks were set for a batch of 3"):
        groups()
    # each row's beams have its task
    seen, route = [], loar._task_of_rows
    loar._task_of_rows = lambda *given: (seen.append(route(*given)), seen[-1])[1]
    with loar.task(["math", "finance", None]):
        model.generate(ids, attention_mask=mask, num_beams=2, max_new_tokens=2, pad_token_id=0)
    assert seen[0].tolist() == [1, 1, 0, 0, -1, -1]
    # in training some are hidden
    loar.config.task_dropout = 0.5
    model.train()
    torch.manual_seed(0)
    known = route(torch.ones(1000, dtype=torch.long), 1000, ids.device)
    assert 400 < (known == -1).sum() < 600 and ((known == -1) | (known == 1)).all()


def test_static_groups_prune_without_a_router():
    model, (ids, _) = _model(), _batch()
    loar = apply_loar(model, LoARConfig(static_groups=[[0, 2], [3], [0, 1, 2, 3]]))
    assert loar.budgets == [2, 1, 4] and not list(loar.parameters())
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    assert [layer.groups.tolist()[0] for layer in cache.layers] == [[0, 2], [3], [0, 1, 2, 3]]


def test_gates_are_straight_through_and_the_balance_term_is_its_formula():
    p = torch.tensor([[0.9, 0.2, 0.6, 0.4], [0.1, 0.8, 0.3, 0.7]], requires_grad=True)
    shared = torch.tensor([0])
    groups = choose_groups(p, 2, shared)
    assert groups.tolist() == [[0, 2], [0, 1]]
    gates = straight_through(p, groups, shared)
    assert gates.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0]]
    (gates * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    assert p.grad.tolist() == [[0, 2, 3, 4], [0, 2, 3, 4]]  # also those that do not work; never the shared one
    usage = torch.tensor([1.0, 0.5, 0.3, 0.2])
    term = balance_term(p, usage, 2, shared)
    assert term.tolist() == pytest.approx([3 * (0.1 + 0.18 + 0.08), 3 * (0.4 + 0.09 + 0.14)])
    last, none = torch.tensor([3]), torch.tensor([], dtype=torch.long)
    assert choose_groups(p, 2, last).tolist() == [[0, 3], [1, 3]]
    assert choose_groups(p, 2, none).tolist() == [[0, 2], [1, 3]]
    assert balance_term(p, usage, 2, none).tolist() == pytest.approx(
        [2 * (0.9 + 0.1 + 0.18 + 0.08), 2 * (0.1 + 0.4 + 0.09 + 0.14)]
    )


def test_calibrated_routers_start_as_pruning_of_what_matters_least():
    model = _model(num_hidden_layers=2)
    with torch.no_grad():  # group 2 of the first layer writes nothing, group 1 of the second much
        model.model.layers[0].self_attn.o_proj.weight[:, 16:24] = 0
        model.model.layers[0].self_attn.o_proj.weight *= 20
        model.model.layers[1].self_attn.o_proj.weight *= 20
    model.train()
    examples = _examples(3)
    loar = _routed(model, budget=0.75, sliding_window=9)
    worth = calibrate_routers(model, examples)
    assert worth[0, 2] == 0 and model.training and loar.probe is None
    plain = torch.nn.functional.cross_entropy
    model.eval()
    model.loar.unload()

    def loss(off):
        apply_loar(
            model,
            LoARConfig(
                static_groups=[
                    sorted({0, 1, 2, 3} - {g}) if layer == at else [0, 1, 2, 3]
                    for layer, (at, g) in enumerate([off, off])
                ],
                sliding_window=9,
            ),
        )
        found = [
            plain(
                model(torch.tensor([e["input_ids"]]), use_cache=False).logits[0, 7:-1].float(),
                torch.tensor(e["labels"][8:]),
            ).item()
            for e in examples
        ]
        model.loar.unload()
        return sum(found) / len(found)

    with torch.no_grad():
        expected = [[loss((layer, group)) - loss((9, 0)) for group in range(4)] for layer in range(2)]
    torch.testing.assert_close(worth, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-4)
    for layer in range(2):
        order = loar.routers.routers[layer].bias.argsort().tolist()
        assert order == worth[layer].argsort().tolist() and not loar.routers.routers[layer].weight.any()
        assert loar.routers.shared[layer].tolist() == [order[-1]]
        assert loar.routers.routers[layer].bias.abs().max().item() == pytest.approx(2)


def test_the_balance_term_reaches_the_routers_without_changing_the_loss():
    model, (ids, mask) = _model(), _batch()
    labels = torch.where(_prompt(ids, 20), -100, ids)
    grads, losses = [], []
    for weight in (0.0, 2.0):
        routed = copy.deepcopy(model)
        loar = _routed(routed, balance_weight=weight)
        loar.processes, loar.rows, loar.loss_scale = 2, 6, 8.0
        routed.train()
        loss = routed(ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
        grads.append(loar.routers.routers[2].bias.grad.clone())
    assert losses[0] == losses[1]
    # the last layer's router, whose term nothing later is changed by: the formula, with the sigmoid's derivative
    noted = []
    router = loar.routers.routers[2]
    router.register_forward_hook(lambda module, inputs, output: noted.append(output.detach().sigmoid()))
    routed(ids, attention_mask=mask, labels=labels, use_cache=False)
    p = noted[0]
    expected = 2.0 * 8.0 * 2 / 6 / 3 * 3 / 1 * (0.5 * p * (1 - p)).sum(dim=0)
    expected[0] = 0  # shared
    torch.testing.assert_close(grads[1] - grads[0], expected, rtol=1e-4, atol=1e-6)


def test_the_cache_grows_in_blocks_and_carries_the_choice():
    layer = RoutedLayer()
    layer.groups = torch.tensor([[0, 2], [1, 3]])
    states = torch.randn(2, 4, 600, 3)
    keys, _ = layer.update(states[:, :, :300], states[:, :, :300])
    assert keys.shape == (2, 2, 300, 3) and torch.equal(keys[1, 1], states[1, 3, :300])
    places = set()
    for place in range(300, 600):
        keys, _ = layer.update(states[:, :, place : place + 1], states[:, :, place : place + 1])
        places.add(keys.data_ptr())
    assert torch.equal(keys[0], states[0, [0, 2]]) and len(places) <= 3
    layer.reorder_cache(torch.tensor([1, 1]))
    assert layer.groups.tolist() == [[1, 3], [1, 3]] and torch.equal(layer.keys[0], states[1, [1, 3]])
    layer.batch_repeat_interleave(2)
    layer.batch_select_indices(torch.tensor([0]))
    assert layer.groups.shape == (1, 2) and layer.keys.shape == (1, 2, 600, 3) and layer.get_seq_length() == 600
    layer.crop(-100)
    assert layer.get_seq_length() == 500 and layer.keys.shape[2] == 500
    layer.crop(-500)
    assert layer.groups is None  # another prompt may choose otherwise
    window = RoutedLayer(window=4)
    window.update(states[:, :, :9], states[:, :, :9])
    with pytest.raises(ValueError, match="cannot be cropped"):
        window.crop(-1)
    layer.reset()
    assert layer.get_seq_length() == 0 and layer.groups is None


def test_a_window_layers_memory_is_that_of_the_window():
    layer, whole = RoutedLayer(window=64), RoutedLayer()
    states = torch.randn(1, 2, 2000, 8)
    for each in (layer, whole):
        each.update(states, states)
    for _ in range(100):
        layer.update(states[:, :, :1], states[:, :, :1])
    assert layer.get_seq_length() == 2100 and layer.keys.shape[2] == 63
    assert layer.num_bytes() < whole.num_bytes() / 5
    assert layer.get_mask_sizes(1) == (64, 2037)


@pytest.mark.parametrize("windows", [[0, 1], [2, 3]])
def test_search_keeps_the_cost_and_moves_groups_and_windows(windows):
    """In the first layer every group matters, in the others none does, and only the last one's windows hurt."""
    model = _model(num_hidden_layers=4)
    with torch.no_grad():
        for layer, factor in enumerate((30.0, 0.0, 0.0, 0.0)):
            model.model.layers[layer].self_attn.o_proj.weight *= factor
    loar = _routed(model, budget=0.5, sliding_window=2, window_layers=windows)
    examples = _examples(12)
    with torch.no_grad():  # the targets: what the model says with all of the first layer
        static = copy.deepcopy(model)
        static.loar.unload()
        for example in examples:
            best = static(torch.tensor([example["input_ids"]])).logits[0].argmax(-1).tolist()
            example["labels"] = [-100] * 8 + best[7:-1]
    result = search_budgets(model, examples, population=8, generations=8)
    assert sum(result.budgets) == 8 and len(result.window_layers) == 2 and result.cost <= 1
    assert result.better and result.loss < result.uniform_loss and "taken" in str(result)
    assert result.budgets[0] > 2 and 0 not in result.window_layers
    assert loar.budgets == result.budgets and loar.window_layers == result.window_layers
    assert loar.config.budget == result.budgets and loar.config.window_layers == result.window_layers
    assert result.history == sorted(result.history, reverse=True)
    length, spans = 16, [a.loar.window or 16 for a in loar._layers]
    uniform = 2 * (2 * 2 + 2 * length)
    assert result.cost == pytest.approx(sum(k * s for k, s in zip(result.budgets, spans, strict=True)) / uniform)


def test_a_search_that_finds_nothing_better_leaves_the_model_alone():
    model = _model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()  # no group matters
    loar = _routed(model, budget=[1, 2, 3])
    result = search_budgets(model, _examples(4), population=4, generations=2)
    assert not result.better and "no better than" in str(result) and "not taken" in str(result)
    assert loar.budgets == [1, 2, 3]


def test_a_search_is_judged_on_records_that_it_did_not_see(monkeypatch):
    """What half of the records like is what the other half does not."""
    model, examples = _model(), _examples(4)
    loar = _routed(model, budget=0.5)

    def loss(model, records):
        return loar.budgets[0] * (-1 if records[0] is examples[0] else 1)

    monkeypatch.setattr("hf_reason.models.loar.search._loss", loss)
    result = search_budgets(model, examples)
    assert result.budgets[0] == 4 and result.loss == 4 and result.uniform_loss == 2 and not result.better
    assert loar.budgets == [2, 2, 2]


def test_what_it_cannot_handle_is_refused_by_name(tokenizer):
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, Olmo2Config, Olmo2ForCausalLM, StaticCache

    from hf_reason import StepReasonerConfig, StepReasonerForCausalLM

    deepseek = DeepseekV3ForCausalLM(
        DeepseekV3Config(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=16,
            moe_intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            n_routed_experts=2,
            n_group=1,
            topk_group=1,
            num_experts_per_tok=1,
            kv_lora_rank=4,
            q_lora_rank=4,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=4,
        )
    )
    with pytest.raises(ValueError, match="cannot route DeepseekV3ForCausalLM.*latent attention"):
        apply_loar(deepseek, LoARConfig())
    step = StepReasonerConfig(vocab_size=20, **TINY_STEP_SIZES)
    with pytest.raises(ValueError, match="StepReasonerForCausalLM"):
        apply_loar(StepReasonerForCausalLM(step), LoARConfig())
    olmo = Olmo2ForCausalLM(Olmo2Config(**SHAPE))  # a norm over all of the projection's heads together
    with pytest.raises(ValueError, match="cannot route Olmo2ForCausalLM.*'olmo2'.*works with.*llama"):
        apply_loar(olmo, LoARConfig())
    model, (ids, _) = _model(), _batch()
    loar = apply_loar(model, LoARConfig(sliding_window=5))
    with pytest.raises(ValueError, match=r"mask as \(batch, tokens\)"):
        model(ids, attention_mask=torch.ones(3, 1, 30, 30, dtype=torch.bool).tril())
    cache = model(ids, use_cache=True).past_key_values
    loar.set_window_layers([1])
    with pytest.raises(ValueError, match="other windows"):
        model(ids[:, :1], past_key_values=cache)
    with pytest.raises(ValueError, match="leave output_attentions out"):
        model(ids, output_attentions=True)
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="set to 'eager' after apply_loar"):
        model(ids)
    model.set_attn_implementation("loar")
    with pytest.raises(ValueError, match="Assisted decoding"):
        model.generate(ids[:1], max_new_tokens=4, prompt_lookup_num_tokens=2)
    loar.unload()
    loar = apply_loar(model, LoARConfig(budget=0.5))
    with pytest.raises(ValueError, match="has a LoAR already"):
        apply_loar(model, LoARConfig())
    with pytest.raises(ValueError, match="StaticCache"):
        model(ids, past_key_values=StaticCache(config=model.config, max_cache_len=40), use_cache=True)
    with pytest.raises(ValueError, match="filled before LoAR"):
        loar.unload()
        filled = model(ids, use_cache=True, past_key_values=DynamicCache()).past_key_values
        apply_loar(model, LoARConfig(budget=0.5))
        model(ids, past_key_values=filled)
    model.train()
    positions = torch.cat([torch.arange(20), torch.arange(10)])[None]
    with pytest.raises(ValueError, match="packing=False"):
        model(ids[:1], position_ids=positions, use_cache=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": 0.0}, "above 0"),
        ({"budget": [1, 2]}, "3 layers of 4 groups"),
        ({"budget": [1, 2, 5]}, "from 1 to 4"),
        ({"sliding_window": 0}, "sliding_window=0"),
        ({"budget": 0.25, "shared_groups": 2}, "shared_groups=2 is more"),
        ({"static_groups": [[0], [0], []]}, "static_groups does not fit"),
        ({"task_names": ["a", "a"]}, "twice"),
        ({"balance_weight": -1}, "balance_weight"),
        ({"prompt_end_ids": [[9]]}, "one flat list of token ids"),
        ({"prompt_end_ids": [9, 999999]}, "matches no text: the model has the ids 0 to"),
        ({"budget": 0.8}, "budget=0.8 changes nothing: .* needs budget=0.75 or less"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        apply_loar(_model(), LoARConfig(**fields))


def test_a_budget_that_keeps_all_groups_says_what_works():
    """Qwen2.5's small models have two key/value groups: three quarters of them are both."""
    two = _model(num_key_value_heads=2)
    with pytest.raises(ValueError, match="needs budget=0.5 or less .and shared_groups below 1"):
        apply_loar(two, LoARConfig())
    with pytest.raises(ValueError, match="one key/value group a layer cannot be routed"):
        apply_loar(_model(num_key_value_heads=1), LoARConfig(sliding_window=5))
    assert not hasattr(two, "loar") and two.config._attn_implementation == "sdpa"
    apply_loar(two, LoARConfig(budget=0.5))


def test_the_configuration_keeps_pefts_names_and_reads_those_of_version_0_1(tmp_path):
    config = LoARConfig(budget=0.5, anneal_ratio=0.25, task_names=["math"])
    config.save_pretrained(tmp_path)
    assert LoARConfig.from_pretrained(tmp_path) == config
    path = tmp_path / "loar_config.json"
    path.write_text(path.read_text().replace("anneal_ratio", "anneal_share"))
    assert LoARConfig.from_pretrained(tmp_path) == config
    with pytest.raises(TypeError, match="'anneal_share', which is called 'anneal_ratio'"):
        LoARConfig(anneal_share=0.25)
    with pytest.raises(AttributeError, match="called save_pretrained"):
        config.save(tmp_path)
    with pytest.raises(AttributeError, match="called from_pretrained"):
        LoARConfig.load(path)
    with pytest.raises(ValueError, match="holds no loar_config.json"):
        LoARConfig.from_pretrained(tmp_path.parent)


def test_what_is_loaded_is_saved_as_it_was_whatever_named_the_numbers(tmp_path):
    """Else a run that is resumed writes another configuration than one that was not."""
    loar = _routed(_model(), budget=0.5, sliding_window=6)
    assert loar.config.window_layers == "shallow_half" and loar.config.budget == 0.5
    loar.save_pretrained(tmp_path / "first")
    assert json.loads((tmp_path / "first" / "loar_config.json").read_text())["window_layers"] == [0]
    LoAR.from_pretrained(_model(), tmp_path / "first").loar.save_pretrained(tmp_path / "second")
    for name in ("loar_config.json", "loar.safetensors"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
