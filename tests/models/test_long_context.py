"""Sliding windows and RoPE scaling: in force on a loaded model, on a config, and after a reload; else refused."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GPT2Config,
    LlamaConfig,
    MinistralConfig,
    MistralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    SmolLM3Config,
)

from hf_reason.models import set_rope_scaling, set_sliding_window

_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
LAYERED = [kind(**_SIZES) for kind in (Qwen2Config, Qwen3Config, SmolLM3Config, MinistralConfig)]
EVERY = [*LAYERED, MistralConfig(**_SIZES, sliding_window=None), LlamaConfig(**_SIZES)]
LENGTH, WINDOW = 24, 4


def _name(config) -> str:
    return config.model_type


def _model(config, attention: str = "sdpa"):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention).eval()


@torch.no_grad()
def _logits(model, ids=None) -> torch.Tensor:
    return model(torch.arange(LENGTH)[None] + 3 if ids is None else ids).logits[0]


def _seen_by_last(model) -> list[int]:
    """The positions on which the last token's logits depend."""
    embedded = model.get_input_embeddings()(torch.arange(LENGTH)[None] + 3).detach().requires_grad_()
    model(inputs_embeds=embedded).logits[0, -1].square().sum().backward()
    return embedded.grad[0].abs().amax(dim=-1).nonzero().flatten().tolist()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("config", [*LAYERED, MistralConfig(**_SIZES, sliding_window=None)], ids=_name)
def test_tokens_beyond_the_windows_do_not_count(config, attention):
    """Three sliding layers reach 3 (window - 1) tokens back and no further; a layer without a window sees all."""
    model = _model(config, attention)
    assert _seen_by_last(model) == list(range(LENGTH))
    set_sliding_window(model, WINDOW, "all")
    assert _seen_by_last(model) == list(range(LENGTH - 1 - 3 * (WINDOW - 1), LENGTH))
    if config.model_type != "mistral":
        set_sliding_window(model, WINDOW, 0.67)
        assert model.config.layer_types == ["sliding_attention", "sliding_attention", "full_attention"]
        assert _seen_by_last(model) == list(range(LENGTH))


@pytest.mark.parametrize("config", [*LAYERED, MistralConfig(**_SIZES, sliding_window=None)], ids=_name)
def test_a_loaded_model_a_config_and_a_reload_agree(config, tmp_path):
    layers = "all" if config.model_type == "mistral" else [0, 2]
    plain = _model(config)
    model = copy.deepcopy(plain)
    set_sliding_window(model, WINDOW, layers)
    changed = copy.deepcopy(config)
    set_sliding_window(changed, WINDOW, layers)
    made = _model(changed)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert not torch.allclose(_logits(plain), _logits(model), atol=1e-3)
    assert torch.equal(_logits(made), _logits(model))
    assert torch.equal(_logits(reloaded), _logits(model))
    assert type(reloaded) is type(model)
    # attention modules too: the flash kernels read the window from there
    windows = [getattr(layer.self_attn, "sliding_window", "") for layer in model.model.layers]
    assert windows == [getattr(layer.self_attn, "sliding_window", "") for layer in made.model.layers]


def test_decoding_with_the_cut_cache_equals_the_whole_text():
    model = _model(Qwen2Config(**_SIZES))
    set_sliding_window(model, WINDOW)
    ids = torch.arange(LENGTH)[None] + 3
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        steps = [model(ids[:, i : i + 1], past_key_values=cache).logits[0] for i in range(LENGTH)]
    assert torch.allclose(torch.cat(steps), _logits(model), atol=1e-4)
    assert [layer.keys.shape[2] for layer in cache.layers] == [WINDOW - 1, LENGTH, LENGTH]


def test_step_reasoner_slides_in_its_encoder_and_stretches(text_model, tokenizer, tmp_path):
    model = text_model()
    ids = tokenizer("小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?", return_tensors="pt")["input_ids"]
    before = _logits(model, ids)
    set_sliding_window(model, WINDOW)
    assert model.config.layer_types == ["sliding_attention", *["full_attention"] * 5]
    slid = _logits(model, ids)
    assert not torch.allclose(before, slid)
    set_rope_scaling(model, 4)
    assert not torch.allclose(slid, _logits(model, ids))
    model.save_pretrained(tmp_path)
    assert torch.equal(_logits(AutoModelForCausalLM.from_pretrained(tmp_path).eval(), ids), _logits(model, ids))
    with pytest.raises(ValueError, match="the layers are 0 to 1"):
        set_sliding_window(model, WINDOW, [2])


@pytest.mark.parametrize(
    ("config", "window", "layers", "message"),
    [
        (LlamaConfig(**_SIZES), 4, "all", "'llama' model: its code does not read layer_types"),
        (Qwen2MoeConfig(), 4, "all", "'qwen2_moe' model: its code does not read layer_types"),
        (MistralConfig(**_SIZES), 4, "shallow_half", "one window for all of its layers: set the layers to 'all'"),
        (Qwen2Config(**_SIZES), 0, "all", "at least 1"),
        (Qwen2Config(**_SIZES), 4, [0, 3], "the layers are 0 to 2"),
        (Qwen2Config(**_SIZES), 4, "deep", "a fraction of the layers from the bottom"),
        (Qwen2Config(**_SIZES), 4, 1.5, "a fraction of the layers from the bottom"),
    ],
)
def test_windows_that_cannot_be_are_refused(config, window, layers, message):
    before = copy.deepcopy(config)
    with pytest.raises(ValueError, match=message):
        set_sliding_window(config, window, layers)
    assert config.to_dict() == before.to_dict()


def test_the_mend_for_mistral_holds():
    mistral = _model(MistralConfig(**_SIZES, sliding_window=None))
    twin = _model(MinistralConfig(**_SIZES, sliding_window=LENGTH))
    twin.load_state_dict(mistral.state_dict())
    assert torch.allclose(_logits(twin), _logits(mistral), atol=1e-5)


@pytest.mark.parametrize("rope_type", ["yarn", "linear", "dynamic", "llama3"])
@pytest.mark.parametrize("config", EVERY, ids=_name)
def test_scaling_holds_on_model_config_and_reload(config, rope_type, tmp_path):
    config = copy.deepcopy(config)
    config.max_position_embeddings = LENGTH // 2  # the text is longer than what the model "was trained on"
    plain = _model(config)
    model = copy.deepcopy(plain)
    set_rope_scaling(model, 4, rope_type)
    changed = copy.deepcopy(config)
    set_rope_scaling(changed, 4, rope_type)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    logits = _logits(model)
    assert not torch.allclose(_logits(plain), logits, atol=1e-3)
    assert torch.equal(_logits(_model(changed)), logits)
    assert torch.equal(_logits(reloaded), logits)
    assert model.config.max_position_embeddings == (LENGTH // 2 if rope_type == "dynamic" else 2 * LENGTH)
    assert model.config.rope_parameters["rope_theta"] == config.rope_parameters["rope_theta"]


def test_linear_scaling_is_positions_divided_by_the_factor():
    plain = _model(Qwen2Config(**_SIZES))
    model = copy.deepcopy(plain)
    set_rope_scaling(model, 2.5, "linear")
    states, positions = torch.zeros(1, 1, 1), torch.arange(50)[None].float()
    for ours, theirs in zip(
        model.model.rotary_emb(states, positions), plain.model.rotary_emb(states, positions / 2.5), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("first", ["yarn", "linear", "dynamic"])
def test_scaling_twice_counts_from_the_trained_length(first):
    model = _model(Qwen2Config(**_SIZES))
    set_rope_scaling(model, 2, first)
    set_rope_scaling(model, 4)
    once = _model(Qwen2Config(**_SIZES))
    set_rope_scaling(once, 4)
    assert model.config.to_dict() == once.config.to_dict()
    assert torch.equal(_logits(model), _logits(once))


def test_bfloat16_weights_leave_the_frequencies_alone():
    model = _model(Qwen2Config(**_SIZES)).to(torch.bfloat16)
    set_rope_scaling(model, 4)
    whole = _model(Qwen2Config(**_SIZES))
    set_rope_scaling(whole, 4)
    assert torch.equal(model.model.rotary_emb.inv_freq, whole.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (GPT2Config(), {"factor": 2}, "'gpt2' model: it has no rotary positions"),
        (Qwen2Config(**_SIZES), {"factor": 0.5}, "at least 1"),
        (Qwen2Config(**_SIZES), {"factor": 2, "rope_type": "longrope"}, "Choose one of yarn, linear"),
        (
            Qwen2Config(**_SIZES),
            {"factor": 2, "rope_type": "linear", "beta_fast": 3},
            "'linear' has no field beta_fast",
        ),
    ],
)
def test_scaling_that_cannot_be_is_refused(config, arguments, message):
    with pytest.raises(ValueError, match=message):
        set_rope_scaling(config, **arguments)
