"""A file of weights that cannot be read is named; other errors pass."""

import json

import pytest
import torch

from hf_reason.models.weight_files import DamagedWeightsError, readable_weights


def test_the_damaged_file_is_named_also_in_the_base_of_an_adapter(tmp_path) -> None:
    for folder in ("adapter", "base"):
        (tmp_path / folder).mkdir()
    content = {"base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(content))
    torch.save({"w": torch.ones(2)}, tmp_path / "base" / "pytorch_model-00001-of-00002.bin")
    (tmp_path / "base" / "pytorch_model-00002-of-00002.bin").write_bytes(b"junk")
    with (
        pytest.raises(DamagedWeightsError, match="base: the weights in pytorch_model-00002-of-00002.bin are damaged"),
        readable_weights(str(tmp_path / "adapter")),
    ):
        raise KeyError(174812789)


def test_an_error_with_another_cause_passes(tmp_path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(KeyError), readable_weights(str(tmp_path)):
        raise KeyError("x")
    with pytest.raises(KeyError), readable_weights("Qwen/Qwen2.5-0.5B"):
        raise KeyError("x")
