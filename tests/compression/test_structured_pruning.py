"""Groups and channels that leave: smaller shapes, the right ones kept, plain loading, and what is refused."""

import pytest
import torch
from tiny import tiny_qwen2
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hf_reason.compression import PruningError, smaller_model
from hf_reason.compression.structured import channel_importance, group_importance
from hf_reason.models import student_from_teacher

SIZES = {"hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
EXAMPLES = [{"input_ids": list(range(4, 14)), "labels": [-100] * 4 + list(range(8, 14))}]


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = tiny_qwen2(tokenizer, **SIZES)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _logits(model):
    return model(torch.tensor([[5, 6, 7, 8]])).logits


def test_what_did_nothing_leaves_and_the_logits_stay(model):
    """Group 0 of the first layer and group 1 of the second have no way out, and neither have some channels."""
    size = model.config.hidden_size // model.config.num_attention_heads
    dead_groups, dead_channels = (0, 1), ([1, 4, 9], [0, 2, 23])
    with torch.no_grad():
        for layer, group, channels in zip(model.model.layers, dead_groups, dead_channels, strict=True):
            layer.self_attn.o_proj.weight[:, 2 * group * size : 2 * (group + 1) * size] = 0
            layer.mlp.down_proj.weight[:, channels] = 0
    before = _logits(model)
    # the labels are what the model itself says, so that a live group cannot make its loss worse
    ids = EXAMPLES[0]["input_ids"]
    said = model(torch.tensor([ids])).logits[0].argmax(dim=-1).tolist()
    found = smaller_model(
        model, [{"input_ids": ids, "labels": [-100, *said[:-1]]}], num_key_value_heads=1, intermediate_size=21
    )
    torch.testing.assert_close(_logits(found), before)
    assert found.model.layers[0].self_attn.q_proj.weight.shape == (2 * size, 32)
    assert found.model.layers[0].mlp.gate_proj.weight.shape == (21, 32)
    assert (found.config.num_key_value_heads, found.config.num_attention_heads) == (1, 2)
    assert found.num_parameters() < model.num_parameters()
    assert torch.equal(_logits(model), before) and not hasattr(model, "loar")


def test_importance_is_the_rise_of_the_loss(model):
    importance = group_importance(model, EXAMPLES)
    assert importance.shape == (2, 2)
    size, ids = 8, torch.tensor([EXAMPLES[0]["input_ids"]])
    labels = torch.tensor([EXAMPLES[0]["labels"]])
    whole = model(ids, labels=labels).loss
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:, 2 * size :] = 0
    torch.testing.assert_close(
        importance[1, 1], (model(ids, labels=labels).loss - whole).double(), rtol=1e-3, atol=1e-5
    )
    assert channel_importance(model, EXAMPLES).shape == (2, 24)


@pytest.mark.parametrize("tied", [False, True])
def test_result_is_an_ordinary_checkpoint(model, tokenizer, tmp_path, tied):
    model = tiny_qwen2(tokenizer, **SIZES, tie_word_embeddings=tied).to(torch.bfloat16).eval()
    found = smaller_model(model, EXAMPLES, num_key_value_heads=1, num_hidden_layers=1)
    assert found.dtype == torch.bfloat16 and not found.training
    found.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert torch.equal(_logits(loaded), _logits(found)) and loaded.config.num_hidden_layers == 1
    assert loaded.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape[1] >= 3


@pytest.mark.parametrize(("config", "cls"), [(LlamaConfig, LlamaForCausalLM), (Qwen3Config, Qwen3ForCausalLM)])
def test_other_shapes(config, cls):
    torch.manual_seed(0)
    extra = {"head_dim": 8} if config is Qwen3Config else {}
    model = cls(config(vocab_size=40, num_hidden_layers=2, max_position_embeddings=64, **SIZES, **extra)).eval()
    found = smaller_model(model, EXAMPLES, num_key_value_heads=1, intermediate_size=12, layers=[1])
    assert found.config.num_hidden_layers == 1 and _logits(found).shape == (1, 4, 40)


def test_chosen_groups_and_channels_are_those_rows(model):
    found = student_from_teacher(model, groups=[[1], [0]], channels=[[3, 0], [5, 7]])
    first, second = (layer.self_attn.k_proj.weight for layer in model.model.layers)
    assert torch.equal(found.model.layers[0].self_attn.k_proj.weight, first[8:])
    assert torch.equal(found.model.layers[1].self_attn.k_proj.weight, second[:8])
    assert torch.equal(found.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight[[3, 0]])
    assert torch.equal(
        found.model.layers[1].mlp.down_proj.weight, model.model.layers[1].mlp.down_proj.weight[:, [5, 7]]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": [[0]]}, "one list for each of the 2 layers"),
        ({"groups": [[0], [0, 1]]}, "all of one length"),
        ({"groups": [[0, 0], [0, 1]]}, "at most once"),
        ({"channels": [[24], [0]]}, "the channels 0 to 23"),
        ({"groups": [[0], [1]], "num_key_value_heads": 1}, "sets num_key_value_heads by it"),
        ({"groups": [[0], [1]], "num_attention_heads": 1}, "leave num_attention_heads and head_dim out"),
    ],
)
def test_choices_that_do_not_fit(model, settings, message):
    with pytest.raises(ValueError, match=message):
        student_from_teacher(model, **settings)


def test_what_is_refused(model, tokenizer):
    with pytest.raises(PruningError, match="Nothing is to be removed"):
        smaller_model(model, EXAMPLES)
    with pytest.raises(PruningError, match="num_key_value_heads=2: the model has 2; give a number from 1 to 1"):
        smaller_model(model, EXAMPLES, num_key_value_heads=2)
    with pytest.raises(PruningError, match="needs examples"):
        smaller_model(model, [], intermediate_size=3)
    with pytest.raises(PruningError, match="one key/value group"):
        group_importance(tiny_qwen2(tokenizer), EXAMPLES)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(PruningError, match="Llama, Mistral, Qwen2 and Qwen3 shape, not for 'gpt2'.* instead"):
        smaller_model(gpt2, EXAMPLES, num_hidden_layers=1)
