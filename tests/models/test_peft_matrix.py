"""Every PEFT method: its base hashed, saved, loaded on a fresh copy, refused on another base, switched off, merged."""

from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import tiny_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason.models.adapter_files import save_adapter_files
from hf_reason.models.adapter_loading import adapter_place, base_place, load_adapted
from hf_reason.models.adapter_merging import merge_adapter
from hf_reason.models.base_weights import base_fingerprint, trained_base_weights
from hf_reason.models.peft_adapters import AdapterError, adapter_of, load_adapters
from hf_reason.teachers.live import LiveTeacher
from hf_reason.trainers.untouched_base import check_adapter, moves_base

IDS = torch.arange(20, 34).unsqueeze(0)
_TARGETS = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
_VIRTUAL = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}


def _lora(**options):
    return lambda: LoraConfig(**{**_TARGETS, "r": 4, "lora_alpha": 8, **options})


def _method(name, **options):
    return lambda: getattr(peft, f"{name}Config")(**{**_TARGETS, **options})


METHODS = {
    "lora": _lora(),
    "gaussian": _lora(init_lora_weights="gaussian"),
    "random": _lora(init_lora_weights=False),
    "pissa": _lora(init_lora_weights="pissa"),
    "olora": _lora(init_lora_weights="olora"),
    "eva": _lora(init_lora_weights="eva"),
    "orthogonal": _lora(init_lora_weights="orthogonal"),
    "dora": _lora(use_dora=True),
    "rslora": _lora(use_rslora=True),
    "bias": _lora(bias="all"),
    "bias_lora_only": _lora(bias="lora_only"),
    "lora_bias": _lora(lora_bias=True),
    "tokens": _lora(trainable_token_indices=[21, 22]),
    "modules_to_save": _lora(modules_to_save=["lm_head"]),
    "embeddings_to_save": _lora(modules_to_save=["embed_tokens"]),
    "embeddings": _lora(target_modules=["embed_tokens", "q_proj"]),
    "head": _lora(target_modules=["lm_head"]),
    "parameters": _lora(target_modules=[], target_parameters=["q_proj.weight"]),
    "ia3": _method("IA3", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "vera": _method("Vera", r=4),
    "adalora": _method("AdaLora", init_r=4, target_r=2, total_step=10),
    "loha": _method("LoHa", r=4),
    "lokr": _method("LoKr", r=4),
    "oft": _method("OFT", oft_block_size=4),
    "boft": _method("BOFT", boft_block_size=4),
    "fourierft": _method("FourierFT", n_frequency=8),
    "ln_tuning": _method("LNTuning", target_modules=["input_layernorm"]),
    "hra": _method("HRA", r=4),
    "vblora": _method("VBLoRA", r=2, num_vectors=8, vector_length=8),
    "miss": _method("Miss", r=4),
    "randlora": _method("RandLora", r=4),
    "shira": _method("Shira", r=4),
    "road": _method("Road", group_size=8),
    "c3a": _method("C3A", block_size=8),
    "delora": _method("Delora", r=4),
    "waveft": _method("WaveFT", n_frequency=8),
    "osf": _method("OSF"),
    "trainable_tokens": _method("TrainableTokens", target_modules=["embed_tokens"], token_indices=[21, 22]),
    "prompt_tuning": lambda: peft.PromptTuningConfig(**_VIRTUAL),
    "prefix_tuning": lambda: peft.PrefixTuningConfig(**_VIRTUAL),
    "prefix_projection": lambda: peft.PrefixTuningConfig(**_VIRTUAL, prefix_projection=True, encoder_hidden_size=16),
    "p_tuning": lambda: peft.PromptEncoderConfig(**_VIRTUAL, encoder_hidden_size=16),
}
# Quick and unlike each other; the rest is slow.
_FAST = (
    *("lora", "pissa", "dora", "bias", "tokens", "modules_to_save", "embeddings", "parameters"),
    *("ia3", "vera", "adalora", "lokr", "ln_tuning", "prompt_tuning", "p_tuning"),
)
_VIRTUAL_TOKENS = ("prompt_tuning", "prefix_tuning", "prefix_projection", "p_tuning")


def _cases(names, fast):
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def bases(_session_tokenizer, tmp_path_factory):
    """Folders of a base, of the same with tied embeddings, and of another base."""
    folder = tmp_path_factory.mktemp("bases")
    tiny_qwen2(_session_tokenizer).save_pretrained(folder / "base")
    tiny_qwen2(_session_tokenizer, tie_word_embeddings=True).save_pretrained(folder / "tied")
    tiny_qwen2(_session_tokenizer, seed=1).save_pretrained(folder / "other")
    return folder


def _logits(model, ids=IDS):
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids).logits


def _trained(base: Path, config, *, rate=0.05) -> PeftModel:
    """A model whose trainable weights have moved, by a step of their own gradients and at random."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += rate * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("name", _cases(METHODS, _FAST))
def test_a_method_comes_back_on_its_base_and_on_no_other(name, bases, tmp_path):
    config = METHODS[name]()
    check_adapter(config, None)
    plain = AutoModelForCausalLM.from_pretrained(bases / "base")
    fingerprint = base_fingerprint(plain)
    model = _trained(bases / "base", config)
    if moves_base(config) is None:
        assert base_fingerprint(model)["hash"] == fingerprint["hash"] and not trained_base_weights(model)
    model.save_pretrained(tmp_path)
    save_adapter_files(tmp_path, model, fingerprint)
    torch.manual_seed(7)  # of nothing that a method draws when it is loaded
    again = load_adapted(str(tmp_path), AutoModelForCausalLM.from_pretrained)
    assert torch.allclose(_logits(again), _logits(model), atol=1e-5)
    with pytest.raises(AdapterError, match="belongs to another base model"):
        load_adapted(str(tmp_path), lambda _: AutoModelForCausalLM.from_pretrained(bases / "other"))


@pytest.mark.parametrize("name", _cases(METHODS, _FAST))
def test_a_teacher_that_is_the_student_without_its_adapter_is_the_base_or_refused(name, bases):
    config = METHODS[name]()
    model = _trained(bases / "base", config, rate=0.3)
    if moves_base(config) or trained_base_weights(model):
        return
    plain = AutoModelForCausalLM.from_pretrained(bases / "base")
    vocabulary = plain.config.vocab_size
    expected = LiveTeacher(plain, vocabulary).log_probs([IDS[0].tolist()])[0]
    found = LiveTeacher(model, vocabulary, adapter_off=True).log_probs([IDS[0].tolist()])[0]
    assert abs(found - expected).max() == 0


@pytest.mark.parametrize(
    "name", _cases([name for name in METHODS if name not in _VIRTUAL_TOKENS], ("dora", "embeddings", "head", "tokens"))
)
@pytest.mark.parametrize("base", ["base", "tied"])
def test_merging_keeps_the_logits(name, base, bases, tmp_path):
    """Merged by PEFT alone, a LoRA on embeddings that the head shares changes the head, too."""
    model = _trained(bases / base, METHODS[name](), rate=0.1)
    expected = _logits(model)
    merged = merge_adapter(model)
    assert torch.allclose(_logits(merged), expected, atol=1e-4)
    if base == "tied":
        merged.save_pretrained(tmp_path)
        assert torch.allclose(_logits(AutoModelForCausalLM.from_pretrained(tmp_path)), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["embeddings", "embeddings_to_save"])
def test_what_ends_up_the_same_stays_tied(name, bases):
    config = METHODS[name]()
    config.ensure_weight_tying = True
    model = _trained(bases / "tied", config)
    expected = _logits(model)
    merged = merge_adapter(model)
    assert torch.allclose(_logits(merged), expected, atol=1e-4)
    assert merged.config.tie_word_embeddings


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning", "p_tuning"])
def test_virtual_tokens_cannot_be_merged(name, bases):
    with pytest.raises(AdapterError, match="adds virtual tokens and cannot be merged"):
        merge_adapter(_trained(bases / "base", METHODS[name]()))


def test_a_merge_that_changes_the_logits_is_refused(bases, monkeypatch):
    monkeypatch.setattr("hf_reason.models.adapter_merging._untie", lambda base: False)
    with pytest.raises(AdapterError, match="gives other logits than the base with its LORA adapter"):
        merge_adapter(_trained(bases / "tied", METHODS["embeddings"](), rate=0.3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_16_bits_is_known_in_32_bits_and_the_other_way_round(dtype, tokenizer, tmp_path):
    for name, seed in (("base", 0), ("other", 1)):
        tiny_qwen2(tokenizer, seed=seed).to(dtype).save_pretrained(tmp_path / name)

    def load(place, in_dtype):
        return AutoModelForCausalLM.from_pretrained(place, dtype=in_dtype)

    for trained_in, used_in in ((torch.float32, dtype), (dtype, torch.float32)):
        base = load(tmp_path / "base", trained_in)
        fingerprint = base_fingerprint(base)
        model = get_peft_model(base, METHODS["lora"]())
        model.save_pretrained(tmp_path / "adapter")
        save_adapter_files(tmp_path / "adapter", model, fingerprint)
        load_adapted(str(tmp_path / "adapter"), lambda place, used_in=used_in: load(place, used_in))
        with pytest.raises(AdapterError, match="belongs to another base model"):
            load_adapted(str(tmp_path / "adapter"), lambda _, used_in=used_in: load(tmp_path / "other", used_in))
    rounded = torch.bfloat16 if dtype == torch.float16 else torch.float16  # which cannot be compared
    load_adapted(str(tmp_path / "adapter"), lambda place: load(place, rounded))


@pytest.mark.parametrize("start", ["pissa_niter_4", "corda", "lora_ga"])
def test_a_start_that_is_not_found_again_is_refused(start):
    with pytest.raises(ValueError, match="not found again when the saved adapter is loaded"):
        check_adapter(LoraConfig(**_TARGETS, init_lora_weights=start), None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: peft.PolyConfig(**_TARGETS, r=4), "POLY reads task_ids"),
        (lambda: peft.MultitaskPromptTuningConfig(**_VIRTUAL, num_tasks=1), "MULTITASK_PROMPT_TUNING reads task_ids"),
        (
            lambda: peft.CPTConfig(
                task_type="CAUSAL_LM", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2]
            ),
            "CPT computes its own loss",
        ),
    ],
)
def test_methods_that_need_what_the_trainers_lack_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        check_adapter(config(), None)


@pytest.mark.parametrize(("changing", "setting"), [("pissa", "init_lora_weights='pissa'"), ("bias", "bias='all'")])
def test_adapters_that_change_their_base_stand_alone(changing, setting, bases, tmp_path):
    fingerprint = base_fingerprint(AutoModelForCausalLM.from_pretrained(bases / "base"))
    for name in (changing, "lora"):
        model = _trained(bases / "base", METHODS[name]())
        model.save_pretrained(tmp_path / name)
        save_adapter_files(tmp_path / name, model, fingerprint)
    base = AutoModelForCausalLM.from_pretrained(bases / "base")
    with pytest.raises(AdapterError, match=f"{setting}.* must be the only adapter"):
        load_adapters(base, {"a": tmp_path / "lora", "b": tmp_path / changing})
    base = AutoModelForCausalLM.from_pretrained(bases / "base")
    alone = load_adapters(base, {"b": tmp_path / changing})
    with pytest.raises(AdapterError, match=f"{setting}.* must be the only adapter"):
        load_adapters(alone, {"a": tmp_path / "lora"})
    with pytest.raises(AdapterError, match="is not the base any more"), adapter_of(alone, "law"):
        pass


def test_adapters_that_peft_cannot_combine_are_refused_by_name(bases, tmp_path):
    for name in ("ia3", "lora"):
        _trained(bases / "base", METHODS[name]()).save_pretrained(tmp_path / name)
    base = AutoModelForCausalLM.from_pretrained(bases / "base")
    with pytest.raises(AdapterError, match="'b' .* does not fit this model beside 'a': Cannot combine adapters"):
        load_adapters(base, {"a": tmp_path / "lora", "b": tmp_path / "ia3"})


def test_adapters_are_found_by_folder_and_their_base_wherever_both_were_moved(bases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(bases / "base")
    base.save_pretrained("run/base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("run/base"), METHODS["lora"](), adapter_name="law")
    model.save_pretrained("run")
    assert adapter_place("run") == "run/law" and adapter_place("run/base") is None
    assert base_place("run/law") == "run/base"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "elsewhere" / "run")
    assert Path(base_place("elsewhere/run/law")).resolve() == tmp_path / "elsewhere" / "run" / "base"
    monkeypatch.chdir("/")
    loaded = load_adapted(adapter_place(str(tmp_path / "elsewhere" / "run")), AutoModelForCausalLM.from_pretrained)
    assert torch.equal(_logits(loaded), _logits(model))
    model.add_adapter("tax", METHODS["lora"]())
    model.save_pretrained(tmp_path / "two")
    with pytest.raises(AdapterError, match="holds the adapters law, tax. Name one"):
        adapter_place(str(tmp_path / "two"))


@pytest.mark.parametrize(
    "model_type",
    _cases(("llama", "mistral", "gemma2", "qwen2_moe", "qwen3_moe", "opt", "falcon", "gpt2"), ("gemma2", "falcon")),
)
@pytest.mark.parametrize("name", ["rslora", "prompt_tuning"])
def test_other_model_types(model_type, name, tokenizer, tmp_path):
    tiny_model(tokenizer, model_type).save_pretrained(tmp_path / "base")
    config = METHODS[name]()
    if name == "rslora":
        config.target_modules = "all-linear"
    fingerprint = base_fingerprint(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))
    model = _trained(tmp_path / "base", config)
    assert base_fingerprint(model)["hash"] == fingerprint["hash"]
    model.save_pretrained(tmp_path / "adapter")
    save_adapter_files(tmp_path / "adapter", model, fingerprint)
    again = load_adapted(str(tmp_path / "adapter"), AutoModelForCausalLM.from_pretrained)
    assert torch.allclose(_logits(again), _logits(model), atol=1e-5)
    if name == "rslora":
        expected = _logits(model)
        assert torch.allclose(_logits(merge_adapter(model)), expected, atol=1e-3)
