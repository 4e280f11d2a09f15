"""Models of the recipes: from scratch, by name, and what is refused."""

import importlib.util

import pytest
import torch
from trl import ModelConfig

from hf_reason.runs import ScratchArguments, load_model_and_tokenizer
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


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_missing_extra_is_named(tmp_path):
    config = ModelConfig(model_name_or_path=str(tmp_path), load_in_4bit=True)
    with pytest.raises(ValueError, match=r"hf_reason\[bnb\]"):
        load_model_and_tokenizer(config, ScratchArguments(), _args(tmp_path), iter(()))
