"""A model with an invalid generation config is made savable, or refused, before it is trained."""

import logging

import pytest
from tiny import tiny_trainer
from transformers import AutoModelForCausalLM, GenerationConfig

from hf_reason import CoTSFTConfig, CoTSFTTrainer
from hf_reason.models.savable_generation import make_generation_config_savable
from hf_reason.text import end_token_id

IGNORED = {
    "temperature": {"temperature": 0.6},
    "top_p": {"top_p": 0.95},
    "top_k": {"do_sample": False, "top_k": 20},
    "min_p": {"min_p": 0.1},
    "top_h": {"top_h": 0.4},
    "typical_p": {"typical_p": 0.9},
    "epsilon_cutoff": {"epsilon_cutoff": 3e-4},
    "eta_cutoff": {"eta_cutoff": 3e-4},
    "early_stopping": {"early_stopping": True},
    "length_penalty": {"length_penalty": 2.0, "num_beams": 1},
    "cache_implementation": {"use_cache": False, "cache_implementation": "static"},
    "output_scores": {"output_scores": True},
    "output_attentions": {"output_attentions": True},
    "output_hidden_states": {"output_hidden_states": True},
    "pad_token_id": {"pad_token_id": -1},
}
REFUSED = {
    "suppress_tokens": {"forced_eos_token_id": 5, "suppress_tokens": [5]},
    "num_return_sequences": {"num_return_sequences": 3},
    "num_beams": {"num_return_sequences": 3, "num_beams": 2},
    "cache_implementation": {"cache_implementation": "no such"},
    "early_stopping": {"early_stopping": "sometimes"},
    "max_new_tokens": {"max_new_tokens": 0},
    "assistant_ensemble_weight": {"assistant_ensemble_weight": 2.0},
    "streamer": {"streamer": 1},
}


def _with(model, settings):
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    return model


@pytest.mark.parametrize("name", IGNORED)
def test_flags_without_an_effect_are_unset_and_named(tiny_model, tmp_path, caplog, name):
    model = _with(tiny_model, IGNORED[name])
    with pytest.raises(ValueError):
        model.save_pretrained(tmp_path / "before")
    with caplog.at_level(logging.WARNING, logger="hf_reason"):
        assert make_generation_config_savable(model) == [name]
    assert name in caplog.text and getattr(model.generation_config, name) is None
    model.save_pretrained(tmp_path)
    assert make_generation_config_savable(AutoModelForCausalLM.from_pretrained(tmp_path)) == []


def test_what_is_valid_stays(tiny_model):
    assert (
        make_generation_config_savable(_with(tiny_model, {"do_sample": True, "top_k": 20, "temperature": 0.6})) == []
    )
    config = tiny_model.generation_config
    assert (config.do_sample, config.temperature, config.top_k) == (True, 0.6, 20)
    tiny_model.generation_config = None
    assert make_generation_config_savable(tiny_model) == []


@pytest.mark.parametrize("name", REFUSED)
def test_contradictions_are_refused_before_training(tmp_path, tiny_model, tokenizer, records, name):
    model = _with(tiny_model, REFUSED[name])
    with pytest.raises(
        ValueError, match=f"generation config is invalid: .*{name}.* could not be saved after training"
    ) as error:
        tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, records[:4])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("by_name", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["model", "folder"])
def test_a_trained_model_is_saved_reloaded_and_keeps_its_stop_tokens(
    tmp_path, tiny_model, tokenizer, records, by_name
):
    """Settings in the model's config, of old models, are moved; every stop token stays."""
    model = _with(tiny_model, {"temperature": 0.6, "top_p": 0.9, "min_p": 0.1, "eos_token_id": [7, 9]})
    model.config.repetition_penalty, model.config.num_beams = 1.1, 2
    if by_name:
        model.config.repetition_penalty = model.config.num_beams = None
        published = tmp_path / "published"
        own, model.generation_config = model.generation_config, GenerationConfig()
        model.save_pretrained(published)
        (published / "generation_config.json").write_text(own.to_json_string())
        tokenizer.save_pretrained(published)
        model = str(published)
    trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path / "out", model, tokenizer, records[:4], max_steps=1)
    trainer.train()
    trainer.save_model()
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    assert saved.eos_token_id[0] == end_token_id(tokenizer) and {7, 9} <= set(saved.eos_token_id)
    assert (saved.temperature, saved.top_p, saved.min_p) == (None, None, None)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    if not by_name:
        assert (loaded.generation_config.repetition_penalty, loaded.generation_config.num_beams) == (1.1, 2)
    loaded.save_pretrained(tmp_path / "again")
