"""Models of the recipes: from scratch, by name, and what is refused."""

import importlib.util

import pytest
import torch
from trl import ModelConfig

from hf_reason.cli.arguments import ScratchArguments
from hf_reason.cli.inputs.models import load_model_and_tokenizer, peft_config_of
from hf_reason.trainers import CoTSFTConfig

_CONFIG = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _args(tmp_path, **overrides):
    return CoTSFTConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False, **overrides)


def test_scratch_model_is_seeded_and_its_tokenizer_is_trained_once(tmp_path, records):
    scratch = ScratchArguments(model_config=_CONFIG, vocab_size=400)
    one, tokenizer = load_model_and_tokenizer(ModelConfig(), scratch, _args(tmp_path), records)
    assert one.config.model_type == "qwen2"
    assert one.config.vocab_size == len(tokenizer)
    # the second time the data is not read: a resumed run must not depend on its order
    two, again = load_model_and_tokenizer(ModelConfig(), scratch, _args(tmp_path), iter(()))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other, _ = load_model_and_tokenizer(ModelConfig(), scratch, _args(tmp_path, seed=1), iter(()))
    assert not torch.equal(one.model.layers[0].mlp.up_proj.weight, other.model.layers[0].mlp.up_proj.weight)


def test_config_from_the_command_line_and_its_errors(tmp_path, records):
    assert ScratchArguments(model_config='{"hidden_size": 8}').model_config == {"hidden_size": 8}
    with pytest.raises(ValueError, match="not JSON"):
        ScratchArguments(model_config="{hidden_size: 8")
    with pytest.raises(ValueError, match="no field hiden_size"):
        load_model_and_tokenizer(
            ModelConfig(), ScratchArguments(model_config={"hiden_size": 8}, vocab_size=400), _args(tmp_path), records
        )


def test_named_model_is_loaded_and_a_wrong_name_is_one_error(tmp_path, tiny_model, tokenizer):
    tiny_model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    config = ModelConfig(model_name_or_path=str(tmp_path / "m"), dtype="bfloat16")
    model, loaded = load_model_and_tokenizer(config, ScratchArguments(), _args(tmp_path), iter(()))
    assert model.dtype == torch.bfloat16
    assert len(loaded) == len(tokenizer)
    wrong = ModelConfig(model_name_or_path=str(tmp_path / "nothing-here"))
    with pytest.raises(ValueError, match="nothing-here: there is no such folder"):
        load_model_and_tokenizer(wrong, ScratchArguments(), _args(tmp_path), iter(()))
    wrong = ModelConfig(model_name_or_path="out/nothing")  # may be a name of the Hub, or a folder that was mistyped
    with pytest.raises(ValueError, match="'out/nothing': there is no such folder, and as a Hub name"):
        load_model_and_tokenizer(wrong, ScratchArguments(), _args(tmp_path), iter(()))


def test_a_folder_without_a_tokenizer_asks_for_one(tmp_path, tiny_model, tokenizer):
    tiny_model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "t")
    config = ModelConfig(model_name_or_path=str(tmp_path / "m"))
    with pytest.raises(ValueError, match="no tokenizer files in .*/m. Give tokenizer_name_or_path"):
        load_model_and_tokenizer(config, ScratchArguments(), _args(tmp_path), iter(()))
    given = ScratchArguments(tokenizer_name_or_path=str(tmp_path / "t"))
    assert len(load_model_and_tokenizer(config, given, _args(tmp_path), iter(()))[1]) == len(tokenizer)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("q_proj", {"q_proj"}), ("q_proj v_proj", {"q_proj", "v_proj"}), (".*q_proj", ".*q_proj"), ("all-linear",) * 2],
)
def test_one_target_is_a_name(given, expected):
    """TRL makes a text of a list of one, and PEFT reads it as a pattern that matches nothing."""
    config = peft_config_of(ModelConfig(use_peft=True, lora_target_modules=given.split()))
    assert config.target_modules == expected
    assert peft_config_of(ModelConfig()) is None


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_missing_extra_is_named(tmp_path):
    config = ModelConfig(model_name_or_path=str(tmp_path), load_in_4bit=True)
    with pytest.raises(ValueError, match=r"hf_reason\[bnb\]"):
        load_model_and_tokenizer(config, ScratchArguments(), _args(tmp_path), iter(()))


_STEP_CONFIG = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_encoder_layers": 1,
    "num_reasoner_layers": 1,
    "num_decoder_layers": 1,
    "num_attention_heads": 2,
}


def _step_reasoner(tmp_path, records, **changes):
    scratch = ScratchArguments(model_type="step_reasoner", model_config={**_STEP_CONFIG, **changes}, vocab_size=400)
    return load_model_and_tokenizer(ModelConfig(), scratch, _args(tmp_path), records)


def _holding(tokenizer, text) -> list[int]:
    return [i for i in range(len(tokenizer)) if text in tokenizer.decode([i]) and i not in tokenizer.all_special_ids]


def test_step_reasoner_gets_its_token_ids_from_the_tokenizer(tmp_path, records):
    model, tokenizer = _step_reasoner(tmp_path, records)
    config = model.config
    assert (config.num_hidden_layers, config.num_key_value_heads, config.vocab_size) == (3, 2, len(tokenizer))
    assert config.thought_start_token_ids == [tokenizer.convert_tokens_to_ids("<think>")]
    assert config.boundary_token_ids == _holding(tokenizer, "\n") != []
    assert config.trigger_token_ids == _holding(tokenizer, "=") != []
    config = _step_reasoner(tmp_path, records, boundaries=["。", "\n"], triggers=[])[0].config
    assert config.boundary_token_ids == sorted(_holding(tokenizer, "。") + _holding(tokenizer, "\n"))
    assert config.trigger_token_ids == []
    config = _step_reasoner(tmp_path, records, thought_start="</think>")[0].config
    assert config.thought_start_token_ids == [tokenizer.convert_tokens_to_ids("</think>")]


def test_step_reasoner_accepts_ids_in_place_of_texts(tmp_path, records):
    config = _step_reasoner(tmp_path, records, boundary_token_ids=[7, 9], triggers=["="])[0].config
    assert config.boundary_token_ids == [7, 9]
    assert config.trigger_token_ids and config.thought_start_token_ids
    # even where the tokenizer has no such token: its id stands for itself
    assert _step_reasoner(tmp_path, records, thought_start_token_ids=[5])[0].config.thought_start_token_ids == [5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 7}, "num_hidden_layers=7, but .* is 3.*make them agree"),
        ({"boundaries": ["\n"], "boundary_token_ids": [7]}, "boundaries and boundary_token_ids"),
        ({"triggers": ["\u2603"]}, "triggers: no token of this tokenizer contains"),
        ({"thought_start": "<thought>"}, "no token '<thought>'"),
        ({"trigger": ["="]}, "no field trigger"),
    ],
)
def test_step_reasoner_settings_that_do_not_fit(tmp_path, records, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        _step_reasoner(tmp_path, records, **changes)
    assert "\n" not in str(error.value)


def test_texts_for_steps_belong_to_step_reasoner_alone(tmp_path, records):
    scratch = ScratchArguments(model_config={**_CONFIG, "triggers": ["="]}, vocab_size=400)
    with pytest.raises(ValueError, match="qwen2 has no field triggers"):
        load_model_and_tokenizer(ModelConfig(), scratch, _args(tmp_path), records)
