"""Recovery of a GPTQ model: scales learn, integers stay, and the file keeps its layout."""

import pytest
import torch
from gptq_checkpoint import old_checkpoint
from safetensors.torch import load_file
from tiny import interrupt_at, save_model, tiny_model, tiny_step_reasoner
from transformers import AutoModelForCausalLM

from hf_reason.compression import QuantizationError, recover
from hf_reason.compression.gptq_files import load_dequantized
from hf_reason.compression.scale_tuning import load_scaled, save_scaled
from hf_reason.trainers import DistillKLTrainer

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
SETTINGS = {"max_length": 256, "use_cpu": True, "disable_tqdm": True, "gradient_checkpointing": False}


@pytest.fixture
def train(records):
    from datasets import Dataset

    return Dataset.from_list(records[:16])


def saved(folder, model, tokenizer):
    """The model as a command loads it: a teacher has a name."""
    return AutoModelForCausalLM.from_pretrained(save_model(folder, model, tokenizer))


def test_gradient_of_the_scales_is_that_of_the_formula(tokenizer, tmp_path):
    old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer, bits=3, desc_act=True)
    module = load_scaled(tmp_path / "old").model.layers[1].mlp.down_proj
    scales = module.scales.detach().clone().requires_grad_()
    weight = (scales[module.group] * (module.codes.float() - module.zeros[module.group].float())).T
    states, upstream = torch.randn(3, 64), torch.randn(3, 32)
    (states @ weight.T * upstream).sum().backward()
    (module(states) * upstream).sum().backward()
    torch.testing.assert_close(module.scales.grad, scales.grad)


@pytest.mark.parametrize("kind", ["qwen2", "step_reasoner"])
def test_only_scales_norms_and_biases_change(tokenizer, tmp_path, train, kind):
    whole = tiny_step_reasoner(tokenizer, **SIZES) if kind == "step_reasoner" else tiny_model(tokenizer, kind, **SIZES)
    whole = saved(tmp_path / "whole", whole, tokenizer)
    old_checkpoint(tmp_path / "old", whole, tokenizer, bits=2, sym=False)
    model = load_scaled(tmp_path / "old")
    torch.testing.assert_close(model.eval()(IDS).logits, load_dequantized(tmp_path / "old", torch.float32)(IDS).logits)
    options = {**SETTINGS, "output_dir": tmp_path / "run", "max_steps": 2, "per_device_train_batch_size": 4}
    few = train.select(range(8))  # none is held out, so that the end is kept whatever it is
    trained = recover(model, whole, tokenizer, few, learning_rate=1e-2, **options)
    save_scaled(trained, tmp_path / "old", tmp_path / "new")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    assert before.keys() == after.keys()
    assert {name: value.dtype for name, value in before.items()} == {name: v.dtype for name, v in after.items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed >= {name for name in before if name.endswith(".scales")}
    assert {name for name in changed if not name.endswith(".scales")} <= {n for n, v in before.items() if v.ndim == 1}
    assert any(name.endswith("norm.weight") for name in changed)
    assert sorted(p.name for p in (tmp_path / "old").iterdir()) == sorted(p.name for p in (tmp_path / "new").iterdir())
    found = load_dequantized(tmp_path / "new", torch.float32)(IDS).logits
    torch.testing.assert_close(found, trained.eval()(IDS).logits, rtol=5e-3, atol=5e-3)  # scales are float16 in files


@pytest.mark.slow
def test_it_comes_nearer_to_the_whole_model(tokenizer, tmp_path, train, records):
    from hf_reason.compression import reference_chains

    whole = saved(tmp_path / "whole", tiny_model(tokenizer, "qwen2", **SIZES, initializer_range=0.3), tokenizer)
    old_checkpoint(tmp_path / "old", whole, tokenizer, bits=2)
    texts = [torch.tensor([row["input_ids"]]) for row in reference_chains(records[40:48], tokenizer, 8).examples]

    @torch.no_grad()
    def divergence(model):
        pairs = [(whole(ids).logits.log_softmax(-1), model.eval()(ids).logits.log_softmax(-1)) for ids in texts]
        return sum((p.exp() * (p - q)).sum(-1).mean().item() for p, q in pairs) / len(pairs)

    model = load_scaled(tmp_path / "old")
    before = divergence(model)
    options = {**SETTINGS, "output_dir": tmp_path / "run", "max_steps": 20, "per_device_train_batch_size": 4}
    after = divergence(recover(model, whole, tokenizer, train, learning_rate=1e-2, **options))
    assert after < 0.9 * before, (before, after)


def test_a_stopped_recovery_resumes(tokenizer, tmp_path, train, monkeypatch):
    whole = saved(tmp_path / "whole", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer)
    old_checkpoint(tmp_path / "old", whole, tokenizer, bits=3)

    def run(name):
        options = {**SETTINGS, "output_dir": tmp_path / name, "max_steps": 4, "per_device_train_batch_size": 2}
        return recover(load_scaled(tmp_path / "old"), whole, tokenizer, train, learning_rate=1e-2, **options)

    expected = dict(run("straight").named_parameters())
    with monkeypatch.context() as patch:
        interrupt_at(patch, DistillKLTrainer, 3)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    assert not any("codes" in name for name in load_file(tmp_path / "stopped/checkpoint-3/model.safetensors"))
    found = dict(run("stopped").named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_scales_that_ran_away(tokenizer, tmp_path):
    old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer)
    model = load_scaled(tmp_path / "old")
    model.model.layers[0].mlp.up_proj.scales.data[0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="scales beyond float16.*up_proj.*smaller recover_learning_rate"):
        save_scaled(model, tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()
