"""Pruned weights: exact numbers, the right ones, patterns, other architectures, training, refusals."""

import copy

import pytest
import torch
from tiny import tiny_qwen2, tiny_step_reasoner
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from hf_reason.compression import KeepZeros, PruningError, input_norms, prune_weights, pruned_fraction
from hf_reason.compression.projections import projections

EXAMPLES = [{"input_ids": [5, 6, 7, 8, 9, 10]}, {"input_ids": [11, 12, 13]}]


@pytest.fixture
def model(tokenizer):
    return tiny_qwen2(tokenizer)


def _weights(model, modules="attention"):
    return {name: module.weight for name, module in projections(model, modules).items()}


def test_the_fifth_with_the_smallest_size_of_each_matrix_is_zero(model):
    before = {name: weight.detach().clone() for name, weight in _weights(model).items()}
    others = {name: p.detach().clone() for name, p in model.named_parameters() if "attn" not in name or "bias" in name}
    result = prune_weights(model, 0.2)
    assert len(before) == 2 * 4
    for name, weight in _weights(model).items():
        count = round(0.2 * weight.numel())
        zero = weight == 0
        assert zero.sum() == count
        assert before[name][zero].abs().max() <= before[name][~zero].abs().min()
        assert torch.equal(weight[~zero], before[name][~zero])
    assert result.zeros == sum(round(0.2 * weight.numel()) for weight in before.values())
    assert result.ratio == pytest.approx(0.2, abs=2e-3) and pruned_fraction(model) == result.ratio
    for name, value in others.items():
        assert torch.equal(model.get_parameter(name), value)


def test_global_takes_the_smallest_of_all_and_rows_of_each_row(model):
    apart, rows = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for matrix in _weights(apart).values():
            matrix.mul_(1 if matrix.shape[0] == 16 else 1e-3)  # keys and values: all smaller than the others
    result = prune_weights(apart, 0.1, scope="global")
    assert result.zeros == round(0.1 * result.weights)
    assert all(fraction == 0 for name, fraction in result.by_module.items() if name.endswith(("q_proj", "o_proj")))
    prune_weights(rows, 0.25, scope="row")
    assert all(((weight == 0).sum(dim=1) == 4).all() for weight in _weights(rows).values())


def test_activations_weigh_the_weights(model):
    norms = input_norms(model, EXAMPLES)
    name = "model.layers.0.self_attn.q_proj"
    seen = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for example in EXAMPLES:
        model(input_ids=torch.tensor([example["input_ids"]]))
    handle.remove()
    plain = torch.cat([states[0] for states in seen]).norm(dim=0)
    torch.testing.assert_close(norms[name], plain)
    before = model.get_submodule(name).weight.detach().clone()
    prune_weights(model, 0.5, scope="row", norms=norms)
    score = before.abs() * plain
    for row, kept in zip(score, model.get_submodule(name).weight != 0, strict=True):
        assert kept.sum() == 8 and set(row.topk(8).indices.tolist()) == set(kept.nonzero().flatten().tolist())


def test_two_of_four_in_every_group(model):
    before = {name: weight.detach().clone() for name, weight in _weights(model, "all").items()}
    result = prune_weights(model, pattern="2:4", modules="all")
    assert result.ratio == 0.5
    for name, weight in _weights(model, "all").items():
        groups, old = weight.reshape(-1, 4), before[name].reshape(-1, 4).abs()
        assert ((groups != 0).sum(dim=1) == 2).all()
        assert torch.equal(groups.abs().sum(dim=1), old.topk(2, dim=1).values.sum(dim=1))


def test_pruned_twice_is_pruned_further_and_equal_weights_are_counted(model):
    with torch.no_grad():
        for weight in _weights(model).values():
            weight.fill_(0.5)
    prune_weights(model, 0.1)
    first = {name: weight == 0 for name, weight in _weights(model).items()}
    result = prune_weights(model, 0.3)
    assert result.zeros == sum(round(0.3 * weight.numel()) for weight in _weights(model).values())
    assert all((weight[first[name]] == 0).all() for name, weight in _weights(model).items())


def test_other_architectures(tokenizer):
    step = tiny_step_reasoner(tokenizer)
    assert prune_weights(step, 0.2).ratio == pytest.approx(0.2, abs=2e-3)
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32))
    before = {name: weight.detach().clone() for name, weight in _weights(gpt2).items()}
    assert set(before) == {f"transformer.h.{i}.attn.{name}" for i in (0, 1) for name in ("c_attn", "c_proj")}
    prune_weights(gpt2, 0.5, scope="row")
    for name, weight in _weights(gpt2).items():
        # Conv1D keeps its weight as (inputs, outputs): a row of the matrix is one output
        assert ((weight == 0).sum(dim=0) == before[name].shape[0] // 2).all()
    assert input_norms(gpt2, EXAMPLES)["transformer.h.0.attn.c_proj"].shape == (16,)


def test_saved_zeros_are_loaded_by_plain_transformers(model, tmp_path):
    prune_weights(model.to(torch.bfloat16), 0.4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert pruned_fraction(loaded) == pruned_fraction(model)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)


class _Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        ids = [5 + index, 6, 7, 8]
        return {"input_ids": ids, "labels": ids}


def test_training_keeps_the_zeros_exactly(model, tmp_path):
    prune_weights(model, 0.2)
    zeros = {name: weight == 0 for name, weight in _weights(model).items()}
    before = {name: weight.detach().clone() for name, weight in _weights(model).items()}
    arguments = TrainingArguments(
        str(tmp_path), max_steps=3, learning_rate=1e-2, use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, per_device_train_batch_size=2,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=_Rows(), callbacks=[KeepZeros("attention")]).train()
    for name, weight in _weights(model).items():
        assert torch.equal(weight == 0, zeros[name])
        assert not torch.equal(weight, before[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "between 0 and 1, got 0"),
        ({"ratio": 20}, "between 0 and 1, got 20"),
        ({"scope": "layer"}, "row, matrix, global"),
        ({"pattern": "4:8"}, "2:4"),
        ({"modules": "mlp"}, "attention, feed_forward, all"),
        ({"norms": {}}, "norms has nothing for model.layers.0.self_attn.q_proj"),
    ],
)
def test_settings_that_do_not_fit(model, settings, message):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruningError, match=message):
        prune_weights(model, **settings)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_that_cannot_be_pruned(model, tokenizer):
    from peft import LoraConfig, get_peft_model

    with pytest.raises(PruningError, match="merge it"):
        prune_weights(get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["q_proj"])))
    quantised = copy.deepcopy(model)
    quantised.is_quantized = True
    with pytest.raises(PruningError, match="quantised"):
        prune_weights(quantised)
    with torch.device("meta"):
        away = type(model)(model.config)
    with pytest.raises(PruningError, match="not in memory"):
        prune_weights(away)
    with pytest.raises(PruningError, match="prune the model first"):
        KeepZeros().on_train_begin(None, None, None, model=model)
    with pytest.raises(PruningError, match="needs examples"):
        input_norms(model, [])
    odd = tiny_qwen2(tokenizer, hidden_size=18, num_attention_heads=3, head_dim=6)
    with pytest.raises(PruningError, match="18 inputs"):
        prune_weights(odd, pattern="2:4")


def test_an_expert_that_was_never_reached_has_norms_of_zero(model):
    model.model.layers[0].spare = nn.ModuleDict({"attn": nn.Linear(4, 4)})
    assert input_norms(model, EXAMPLES)["model.layers.0.spare.attn"].tolist() == [0.0] * 4
