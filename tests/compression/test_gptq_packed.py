"""Packed weights: the stream of bits, and dense modules in place of the packed ones."""

import pytest
import torch
from gptq_checkpoint import packed_words
from tiny import tiny_model, tiny_step_reasoner
from torch import nn
from transformers import AutoModelForCausalLM

from hf_reason.compression import quantize_gptq, save_gptq
from hf_reason.compression.packed import dequantize, dequantized_weight, unpack

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(5, 400, (24,), generator=generator).tolist()} for _ in range(8)]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("count", [32, 64, 96, 40])
def test_numbers_are_read_from_the_stream(bits, count):
    numbers = torch.randint(0, 2**bits, (count, 5), generator=torch.Generator().manual_seed(bits))
    assert unpack(packed_words(numbers, bits), bits, count).tolist() == numbers.tolist()


def test_weight_by_hand():
    words = packed_words(torch.tensor([[7, 0], [3, 6], [1, 2]]), 3)
    zeros, scales = torch.tensor([[4, 2], [1, 2]]), torch.tensor([[0.5, 2.0], [3.0, 1.0]])
    found = dequantized_weight(words, zeros, scales, torch.tensor([0, 1, 0]), 3)
    # output 0: 0.5 * (7 - 4), 3 * (3 - 1), 0.5 * (1 - 4)
    assert found.tolist() == [[1.5, 6.0, -1.5], [-4.0, 4.0, 0.0]]


def test_model_that_is_not_quantised_stays(tiny_model):
    weights = {name: weight.clone() for name, weight in tiny_model.named_parameters()}
    assert dequantize(tiny_model) is tiny_model
    assert all(torch.equal(weight, weights[name]) for name, weight in tiny_model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "step_reasoner"])
@pytest.mark.parametrize("bits, options", [(3, {}), (4, {"desc_act": True}), (2, {"sym": False})])
def test_dense_modules_give_the_same(tokenizer, tmp_path, examples, kind, bits, options):
    """Before it ran, exactly; a saved dense model is an ordinary one."""
    pytest.importorskip("gptqmodel")
    model = tiny_step_reasoner(tokenizer, **SIZES) if kind == "step_reasoner" else tiny_model(tokenizer, kind, **SIZES)
    save_gptq(quantize_gptq(model.eval(), examples, bits=bits, group_size=32, **options), tmp_path / "packed")
    # that it requires gradients keeps the kernel of 4 bits from rearranging the weights
    packed = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.float32).eval()
    before = packed(IDS).logits.detach()
    dense = dequantize(packed)
    assert not getattr(dense, "is_quantized", False) and not hasattr(dense.config, "quantization_config")
    torch.testing.assert_close(dense(IDS).logits, before, rtol=2e-3, atol=2e-3)  # kernels multiply in float16
    dense.save_pretrained(tmp_path / "dense")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    assert plain.dtype == torch.float32 and type(plain) is type(model)
    torch.testing.assert_close(plain.eval()(IDS).logits, dense(IDS).logits)


@pytest.mark.slow
def test_model_that_ran_is_dequantised_as_near_as_its_kernel(tokenizer, tmp_path, examples):
    pytest.importorskip("gptqmodel")
    model = tiny_model(tokenizer, "qwen2", **SIZES).eval()
    save_gptq(quantize_gptq(model, examples, group_size=32, desc_act=True), tmp_path)
    packed = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    exact = dequantize(AutoModelForCausalLM.from_pretrained(tmp_path).eval())
    with torch.no_grad():
        packed(IDS)  # from here on the weights lie in another order
    near = dequantize(packed)
    for name, module in exact.named_modules():
        if isinstance(module, nn.Linear):
            found = near.get_submodule(name)
            assert found.weight.dtype == torch.bfloat16 and (found.bias is None) == (module.bias is None)
            torch.testing.assert_close(found.weight, module.weight, rtol=0.02, atol=1e-3)
