"""Models of `ask` and `evaluate`: damaged weights, adapters without their base, and all models before the first."""

import json

import pytest
from tiny import save_model

from hf_reason.cli.arguments import ScratchArguments
from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.cli.inputs.inference import load_for_inference
from hf_reason.cli.inputs.models import load_model_and_tokenizer
from hf_reason.cli.main import main


def _cut(folder, model, tokenizer) -> str:
    save_model(folder, model, tokenizer)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    return str(folder)


def test_damaged_weights_are_named(tmp_path, tiny_model, tokenizer) -> None:
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig

    name = _cut(tmp_path / "m", tiny_model, tokenizer)
    with pytest.raises(ValueError, match="/m: the weights in model.safetensors are damaged"):
        load_for_inference(name, InferenceArguments(use_cpu=True))
    args = CoTSFTConfig(str(tmp_path / "o"), report_to="none", use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match="/m: the weights in model.safetensors are damaged"):
        load_model_and_tokenizer(ModelConfig(model_name_or_path=name), ScratchArguments(), args, ())


@pytest.mark.parametrize("base", ["./moved/base", "moved/base"])
def test_an_adapter_without_its_base_names_it(tmp_path, tokenizer, base) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=f"is an adapter of {base}, and there is no such folder here .* or write the"):
        load_for_inference(str(tmp_path), InferenceArguments(use_cpu=True))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"Unrecognized model in {tmp_path}/base"):  # which is taken, where it is one
        load_for_inference(str(tmp_path), InferenceArguments(use_cpu=True))


def test_all_models_are_checked_before_the_first_generates(
    tmp_path, tiny_model, tokenizer, capsys, monkeypatch
) -> None:
    save_model(tmp_path / "a", tiny_model, tokenizer)
    tiny_model.save_pretrained(tmp_path / "b")
    monkeypatch.setattr("hf_reason.evaluation.evaluate_model", lambda *_, **__: pytest.fail("generated"))
    for other, message in (
        (str(tmp_path / "b"), "There are no tokenizer files in"),
        (str(tmp_path / "c"), "there is no such folder"),
        ("nowhere", "--model_name_or_path 'nowhere': there is no such folder"),
    ):
        assert main(["evaluate", "--model_name_or_path", str(tmp_path / "a"), other, "--use_cpu"]) == 2
        assert message in capsys.readouterr().err
