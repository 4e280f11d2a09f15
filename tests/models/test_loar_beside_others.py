"""LoAR beside PEFT, on other model types, with other generation modes, and with files that are not all there."""

import pytest
import torch
from tiny import tiny_model
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from hf_reason import LoARConfig, apply_loar
from hf_reason.models import with_saved_loar
from hf_reason.models.loar.hooks import KINDS
from hf_reason.models.peft_adapters import AdapterError

SHAPE = {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 90, "pad_token_id": 0, "eos_token_id": 1}
GENERATE = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}


def _routed(model):
    """With routers whose choices differ between prompts."""
    loar = apply_loar(model, LoARConfig(budget=0.5, anneal_ratio=0.0))
    torch.manual_seed(1)
    for name, parameter in loar.named_parameters():
        torch.nn.init.normal_(parameter, std=6.0 if name.endswith("weight") else 1.0)
    return loar


@pytest.fixture
def base(tokenizer):
    return tiny_model(tokenizer, "qwen2", initializer_range=0.4, **SHAPE).double().eval()


@pytest.fixture
def batch():
    torch.manual_seed(2)
    ids, mask = torch.randint(2, 90, (3, 14)), torch.ones(3, 14, dtype=torch.long)
    mask[1, :5] = 0
    return {"input_ids": ids, "attention_mask": mask}


REFUSED = (
    "gemma2",
    "gemma3_text",
    "falcon",
    "falcon_alibi",
    "gpt_neox",
    "gpt2",
    "opt",
    "bloom",
    "mpt",
    "phi3",
    "mamba",
)


@pytest.mark.parametrize("model_type", REFUSED)
def test_other_types_are_refused_in_one_sentence_that_names_what_works(tokenizer, model_type):
    model = tiny_model(tokenizer, model_type)
    with pytest.raises(
        ValueError, match=f"cannot route {type(model).__name__}.* It works with {', '.join(KINDS)}"
    ) as error:
        apply_loar(model, LoARConfig(budget=0.5))
    assert "NoneType" not in str(error.value) and "\n" not in str(error.value)
    assert not hasattr(model, "loar") and model.config._attn_implementation != "loar"


def test_encoder_decoder_models_are_refused():
    t5 = T5ForConditionalGeneration(T5Config(d_model=8, num_layers=1, d_ff=8, num_heads=2, d_kv=4, vocab_size=20))
    with pytest.raises(ValueError, match="decoder-only models of one stack, which T5ForConditionalGeneration is not"):
        apply_loar(t5, LoARConfig(budget=0.5))


@pytest.mark.parametrize("model_type", ["qwen2_moe", "mixtral", "granite"])
def test_mixtures_and_scaled_models_decode_as_they_read(tokenizer, batch, model_type):
    _routed(model := tiny_model(tokenizer, model_type, initializer_range=0.4, **SHAPE).eval())
    whole, cached = (model.generate(**batch, **GENERATE, use_cache=use) for use in (False, True))
    assert torch.equal(whole, cached)


@pytest.mark.parametrize(
    "mode",
    [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 3}],
    ids=["beams", "several beams", "samples"],
)
def test_modes_of_generation_with_and_without_a_cache(base, batch, mode):
    _routed(base)
    outputs = []
    for use in (False, True):
        torch.manual_seed(0)
        outputs.append(base.generate(**batch, **{**GENERATE, **mode}, use_cache=use))
    assert torch.equal(*outputs) and len(outputs[0]) == 3 * mode.get("num_return_sequences", 1)


def test_caches_and_attention_that_do_not_fit(base, batch):
    _routed(base)
    with pytest.raises(ValueError, match="StaticCache. Leave cache_implementation out"):
        base.generate(**batch, **GENERATE, cache_implementation="static")
    with pytest.raises(ValueError, match="loar is not supported for continuous batching"):
        base.generate_batch([[3, 4, 5]], max_new_tokens=2)
    with pytest.raises(ValueError, match="leave output_attentions out"):
        base.generate(**batch, **GENERATE, output_attentions=True, return_dict_in_generate=True)
    for change in (
        lambda: base.set_attn_implementation({"": "eager"}),
        lambda: base.model.set_attn_implementation("sdpa"),
        lambda: setattr(base.config, "_attn_implementation", "eager"),
    ):
        change()
        with pytest.raises(ValueError, match="after apply_loar, which would leave the routing out"):
            base(**batch)
        base.set_attn_implementation("loar")
    assert base(**batch).logits.isfinite().all()


@pytest.mark.parametrize("loar_first", [True, False])
def test_a_lora_before_or_after_it_and_merged(base, batch, loar_first):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    if loar_first:
        _routed(base)
    model = get_peft_model(base, config).eval()
    if not loar_first:
        _routed(model)
    with pytest.raises(ValueError, match="has a LoAR already"):
        apply_loar(model, LoARConfig(budget=0.5))
    written, logits = model.generate(**batch, **GENERATE), model(**batch).logits
    merged = model.merge_and_unload()
    assert hasattr(merged, "loar") and torch.allclose(merged(**batch).logits, logits)
    assert torch.equal(merged.generate(**batch, **GENERATE), written)
    alone = merged.generate(batch["input_ids"][:1], **GENERATE)  # one row multiplies the working groups only
    assert torch.equal(alone[0], written[0])
    merged.loar.unload()
    assert merged.config._attn_implementation == "sdpa" and not torch.allclose(merged(**batch).logits, logits)


@pytest.mark.parametrize("loar_first", [True, False])
@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig"])
def test_virtual_tokens_belong_to_the_prompt(base, batch, loar_first, kind):
    """In generate the routers read the whole prompt behind them, as they do in a forward with labels."""
    import peft

    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=5)
    if loar_first:
        _routed(base)
    model = peft.get_peft_model(base, config).double().eval()
    if not loar_first:
        _routed(model)
    loar, read = base.loar, []
    base.model.register_forward_hook(lambda *_: read.append(loar._prompt.sum(dim=1).tolist()))
    model.generate(**batch, **GENERATE)
    labels = torch.cat([batch["input_ids"][:, :-1] * 0 - 100, batch["input_ids"][:, -1:]], dim=1)
    model(**batch, labels=labels)
    assert read[0] == [5 + 14, 5 + 9, 5 + 14] and read[-1] == [5 + 13, 5 + 8, 5 + 13]
    whole, cached = (model.generate(**batch, **GENERATE, use_cache=use) for use in (False, True))
    assert torch.equal(whole, cached)


def test_prefix_tuning_is_refused(base, batch):
    from peft import PrefixTuningConfig, get_peft_model

    _routed(base)
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    for call in (lambda: model(**batch), lambda: model.generate(**batch, **GENERATE)):
        with pytest.raises(ValueError, match="Prefix tuning .* does not work together with LoAR"):
            call()


def test_weights_without_their_configuration_are_not_ignored(tmp_path, base, batch):
    loar = _routed(base)
    expected = base(**batch).logits
    base.save_pretrained(tmp_path)
    loar.save_pretrained(tmp_path)
    loaded = with_saved_loar(AutoModelForCausalLM.from_pretrained(tmp_path).double(), str(tmp_path))
    assert torch.allclose(loaded.eval()(**batch).logits, expected)
    for missing, message in (
        ("loar_config.json", "a loar.safetensors and no loar_config.json: without it the model would run unrouted"),
        ("loar.safetensors", "holds no LoAR"),
    ):
        kept = (tmp_path / missing).read_bytes()
        (tmp_path / missing).unlink()
        with pytest.raises(AdapterError, match=message):
            with_saved_loar(AutoModelForCausalLM.from_pretrained(tmp_path), str(tmp_path))
        (tmp_path / missing).write_bytes(kept)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(
            ({"prompt_end_ids": ids}, "matches no text")
            for ids in ([[9]], [[9], [10]], ["9"], [9.0], 9, "9", None, [True])
        ),
        ({"prompt_end_ids": [-1]}, "matches no text"),
        ({"budget": "0.5"}, "budget must be a fraction"),
        ({"budget": True}, "budget must be a fraction"),
        ({"budget": float("nan")}, "budget must be a fraction"),
        ({"budget": [2, 2.0]}, "does not fit"),
        ({"shared_groups": 1.5}, "shared_groups must be a whole number"),
        ({"shared_groups": True}, "shared_groups must be a whole number"),
        ({"task_names": "math"}, "task_names must be a list of names"),
    ],
)
def test_settings_of_another_kind_are_refused(base, fields, message):
    with pytest.raises(ValueError, match=message):
        apply_loar(base, LoARConfig(**{"budget": 0.5, **fields}))
