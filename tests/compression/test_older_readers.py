"""The names of transformers 4 beside those of version 5, which reads the files as before."""

import json

import pytest
from tiny import save_model, tiny_model, tiny_step_reasoner
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from hf_reason.compression.older_readers import older_config, write_for_older_readers

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def _files(folder):
    return [json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json")]


@pytest.mark.parametrize("scaling", [{"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}, LLAMA3, YARN])
@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3"])
def test_base_and_scaling_are_at_the_top_and_read_the_same(tokenizer, tmp_path, kind, scaling):
    model = tiny_model(tokenizer, kind, rope_parameters={"rope_theta": 500000.0, **scaling})
    save_model(tmp_path, model, tokenizer)
    before, ids = AutoConfig.from_pretrained(tmp_path), tokenizer("<|user|>1+1=2\n问题")["input_ids"]
    write_for_older_readers(tmp_path)
    config, words = _files(tmp_path)
    assert config["rope_theta"] == 500000.0 and config["torch_dtype"] == config["dtype"] == "float32"
    expected = None if scaling["rope_type"] == "default" else scaling
    assert config.get("rope_scaling") == expected
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == before.to_dict()
    assert "extra_special_tokens" not in words  # a list, at which version 4.57 stops
    assert words["additional_special_tokens"] == ["<|system|>", "<|user|>", "<|assistant|>"]
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read("<|user|>1+1=2\n问题")["input_ids"] == ids
    assert read.extra_special_tokens == tokenizer.extra_special_tokens
    written = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    write_for_older_readers(tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == written


def test_two_bases_and_a_partial_rotation(tokenizer, tmp_path):
    save_model(tmp_path, tiny_model(tokenizer, "gemma3_text"), tokenizer)
    before = AutoConfig.from_pretrained(tmp_path).to_dict()
    write_for_older_readers(tmp_path)
    config = _files(tmp_path)[0]
    nested = config["rope_parameters"]
    assert config["rope_theta"] == nested["full_attention"]["rope_theta"] != config["rope_local_base_freq"]
    assert config["rope_local_base_freq"] == nested["sliding_attention"]["rope_theta"]
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == before
    partial = {"rope_type": "default", "rope_theta": 5.0, "partial_rotary_factor": 0.5}
    assert older_config({"rope_parameters": partial})["partial_rotary_factor"] == 0.5
    assert older_config({"n_embd": 4}) == {"n_embd": 4}


def test_a_tokenizer_class_of_version_5_gets_its_old_name(tokenizer, tmp_path):
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    plain.save_pretrained(tmp_path)
    LlamaConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    assert _files(tmp_path)[1]["tokenizer_class"] == "TokenizersBackend"
    write_for_older_readers(tmp_path)
    assert _files(tmp_path)[1]["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(tmp_path)("1+1=2")["input_ids"] == plain("1+1=2")["input_ids"]


def test_a_model_with_its_own_code_stays_as_it_is(tokenizer, tmp_path):
    save_model(tmp_path, tiny_step_reasoner(tokenizer), tokenizer)
    before = (tmp_path / "config.json").read_bytes()
    write_for_older_readers(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
