"""student_from_teacher: copied layers, evenly chosen rows and columns, and what is refused."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from hf_reason.models import student_from_teacher

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": None,
}  # fmt: skip
NARROW = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}


def _teacher(kind="qwen2", **more):
    torch.manual_seed(0)
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    teacher = model(config(**{**SIZES, **more}))
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return teacher.eval()


def _ids():
    return torch.randint(2, 40, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_all_of_the_teacher_is_the_teacher(kind, tied):
    teacher = _teacher(kind, tie_word_embeddings=tied)
    student = student_from_teacher(teacher).eval()
    assert torch.equal(student(_ids()).logits, teacher(_ids()).logits)
    assert not {p.data_ptr() for p in student.parameters()} & {p.data_ptr() for p in teacher.parameters()}


@pytest.mark.parametrize(("number", "expected"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (4, [0, 1, 3, 4])])
def test_layers_are_taken_evenly(number, expected):
    teacher = _teacher()
    student = student_from_teacher(teacher, num_hidden_layers=number)
    for layer, source in zip(student.model.layers, expected, strict=True):
        for name, weight in layer.state_dict().items():
            assert torch.equal(weight, teacher.model.layers[source].state_dict()[name])
    assert [layer.self_attn.layer_idx for layer in student.model.layers] == list(range(number))


def test_layers_by_name_and_their_kinds():
    kinds = ["full_attention", "sliding_attention"] * 2 + ["full_attention"]
    teacher = _teacher(layer_types=kinds, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    student = student_from_teacher(teacher, layers=[3, 0])
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    weight = student.model.layers[0].mlp.up_proj.weight
    assert torch.equal(weight, teacher.model.layers[3].mlp.up_proj.weight)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_narrow_student_is_a_selection(kind):
    """Every weight against indices written out by hand: 32 -> 16, 48 -> 24, 4 groups of 2 heads -> 2 groups of 2."""
    teacher = _teacher(kind, head_dim=4, tie_word_embeddings=False)
    student = student_from_teacher(teacher, num_hidden_layers=2, **NARROW)
    width, inner = list(range(0, 32, 2)), list(range(0, 48, 2))
    keys = [0, 1, 2, 3, 8, 9, 10, 11]  # groups 0 and 2, of 4 dimensions each
    queries = [*range(0, 8), *range(16, 24)]  # their heads 0, 1 and 4, 5
    ours, theirs = student.model.layers[1], teacher.model.layers[4]
    for name, rows, columns in (
        ("self_attn.q_proj", queries, width), ("self_attn.k_proj", keys, width), ("self_attn.v_proj", keys, width),
        ("self_attn.o_proj", width, queries), ("mlp.gate_proj", inner, width), ("mlp.down_proj", width, inner),
    ):  # fmt: skip
        ours_weight, weight = ours.get_submodule(name).weight, theirs.get_submodule(name).weight
        assert torch.equal(ours_weight, weight[rows][:, columns]), name
        if theirs.get_submodule(name).bias is not None:
            assert torch.equal(ours.get_submodule(name).bias, theirs.get_submodule(name).bias[rows])
    assert torch.equal(ours.input_layernorm.weight, theirs.input_layernorm.weight[width])
    assert torch.equal(student.model.embed_tokens.weight, teacher.model.embed_tokens.weight[:, width])
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight[:, width])
    if kind == "qwen3":
        assert torch.equal(ours.self_attn.q_norm.weight, theirs.self_attn.q_norm.weight)


def test_smaller_heads_keep_rotary_pairs_and_their_frequencies():
    teacher = _teacher("qwen3", head_dim=8)
    student = student_from_teacher(teacher, head_dim=4)
    rows = student.model.layers[0].self_attn.k_norm.weight
    assert torch.equal(rows, teacher.model.layers[0].self_attn.k_norm.weight[[0, 2, 4, 6]])
    frequencies = teacher.model.rotary_emb.inv_freq[[0, 2]]
    assert torch.allclose(student.model.rotary_emb.inv_freq, frequencies)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_student_runs_generates_and_is_saved(tmp_path, kind):
    teacher = _teacher(kind)
    student = student_from_teacher(teacher, num_hidden_layers=3, **NARROW).eval()
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    cached = student.generate(_ids(), **options)
    assert torch.equal(cached, student.generate(_ids(), use_cache=False, **options))
    student.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(_ids()).logits, student(_ids()).logits)
    assert sum(p.numel() for p in student.parameters()) < 0.5 * sum(p.numel() for p in teacher.parameters())


def test_teacher_by_name_in_its_precision(tmp_path):
    teacher = _teacher().to(torch.bfloat16)
    teacher.save_pretrained(tmp_path)
    student = student_from_teacher(str(tmp_path), num_hidden_layers=1)
    assert student.dtype == torch.bfloat16
    assert torch.equal(student.model.layers[0].mlp.up_proj.weight, teacher.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hidden_layers": 6}, "has 5 layers"),
        ({"num_hidden_layers": 0}, "has 5 layers"),
        ({"num_hidden_layers": 2, "layers": [0]}, "twice"),
        ({"layers": [0, 5]}, "0 to 4"),
        ({"layers": []}, "0 to 4"),
        ({"hidden_size": 64}, "hidden_size=64"),
        ({"vocab_size": 39}, "vocab_size"),
        ({"num_attention_heads": 6, "num_key_value_heads": 4}, "multiple"),
        ({"num_key_value_heads": 2}, "only 2 heads"),
        ({"head_dim": 3}, "even"),
        ({"rope_theta": 3.0}, "rope_theta"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        student_from_teacher(_teacher(), **options)


def test_other_shapes_are_refused():
    config = Qwen3MoeConfig(
        **SIZES, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8, decoder_sparse_step=1
    )
    with pytest.raises(ValueError, match="qwen3_moe"):
        student_from_teacher(Qwen3MoeForCausalLM(config))
