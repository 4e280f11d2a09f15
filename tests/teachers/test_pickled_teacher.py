"""A teacher whose weights are pickles is refused in one clear line, and never read."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_model

from hf_reason.teachers import TeacherError, load_teacher_model


def test_pickled_weights_alone(tmp_path, tiny_model, tokenizer):
    folder = tmp_path / "teacher"
    save_model(folder, tiny_model, tokenizer)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    load_teacher_model(str(folder))  # both are there
    (folder / "model.safetensors").unlink()
    with pytest.raises(TeacherError, match=r"pytorch_model.bin pickled weights alone.*save_pretrained"):
        load_teacher_model(str(folder))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    with pytest.raises(TeacherError, match="pickled weights alone"):
        load_teacher_model(str(adapter))
