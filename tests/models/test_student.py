"""student_from_teacher: copied layers, evenly chosen rows and columns, and what is refused."""

import copy

import pytest
import torch
from transformers import (
    ArceeConfig,
    ArceeForCausalLM,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from hf_reason.models import student_from_teacher

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
NARROW = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}


def _teacher(kind="qwen2", **more):
    torch.manual_seed(0)
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }[kind]
    teacher = model(config(**{**SIZES, **more}))
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return teacher.eval()


def _ids():
    return torch.randint(2, 40, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_all_of_the_teacher_is_the_teacher(kind, tied):
    teacher = _teacher(kind, tie_word_embeddings=tied)
    teacher.generation_config.top_k = 7
    before, fields = copy.deepcopy(teacher.state_dict()), teacher.config.to_dict()
    student = student_from_teacher(teacher).eval()
    assert torch.equal(student(_ids()).logits, teacher(_ids()).logits)
    assert (student.lm_head.weight is student.model.embed_tokens.weight) == tied
    assert student.generation_config.top_k == 7 and student.generation_config is not teacher.generation_config
    student.config.vocab_size = 41
    torch.nn.init.zeros_(student.model.embed_tokens.weight)
    assert teacher.config.to_dict() == fields
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
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


def test_every_list_by_layer_follows_the_layers():
    """SmolLM3 says in a list of its own which layers rotate."""
    teacher = SmolLM3ForCausalLM(SmolLM3Config(**SIZES, no_rope_layers=[1, 0, 1, 1, 0]))
    student = student_from_teacher(teacher, layers=[1, 0])
    assert student.config.no_rope_layers == [0, 1]
    assert [layer.self_attn.use_rope for layer in student.model.layers] == [0, 1]


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
        ("self_attn.q_proj", queries, width),
        ("self_attn.k_proj", keys, width),
        ("self_attn.v_proj", keys, width),
        ("self_attn.o_proj", width, queries),
        ("mlp.gate_proj", inner, width),
        ("mlp.up_proj", inner, width),
        ("mlp.down_proj", width, inner),
    ):
        ours_weight, weight = ours.get_submodule(name).weight, theirs.get_submodule(name).weight
        assert torch.equal(ours_weight, weight[rows][:, columns]), name
        if theirs.get_submodule(name).bias is not None:
            assert torch.equal(ours.get_submodule(name).bias, theirs.get_submodule(name).bias[rows])
    for norm in ("input_layernorm", "post_attention_layernorm"):
        assert torch.equal(ours.get_submodule(norm).weight, theirs.get_submodule(norm).weight[width])
    assert torch.equal(student.model.norm.weight, teacher.model.norm.weight[width])
    assert torch.equal(student.model.embed_tokens.weight, teacher.model.embed_tokens.weight[:, width])
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight[:, width])
    if kind == "qwen3":
        assert torch.equal(ours.self_attn.q_norm.weight, theirs.self_attn.q_norm.weight)


def test_smaller_heads_keep_rotary_pairs_and_their_frequencies():
    teacher = _teacher("qwen3", head_dim=8)
    student = student_from_teacher(teacher, head_dim=4)
    rows = student.model.layers[0].self_attn.k_norm.weight
    assert torch.equal(rows, teacher.model.layers[0].self_attn.k_norm.weight[[0, 2, 4, 6]])
    for name, heads in (("q_proj", 8), ("k_proj", 4), ("v_proj", 4)):  # the same dimensions of every head
        weight = teacher.model.layers[0].self_attn.get_submodule(name).weight.view(heads, 8, 32)[:, [0, 2, 4, 6]]
        assert torch.equal(student.model.layers[0].self_attn.get_submodule(name).weight, weight.flatten(0, 1))
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
    assert {weight.dtype for weight in student.parameters()} == {torch.bfloat16}
    assert torch.equal(student.model.layers[0].mlp.up_proj.weight, teacher.model.layers[0].mlp.up_proj.weight)


def test_rotary_frequencies_of_a_bfloat16_student_are_not_rounded(tmp_path):
    _teacher().to(torch.bfloat16).save_pretrained(tmp_path)
    teacher = AutoModelForCausalLM.from_pretrained(tmp_path)
    student = student_from_teacher(teacher).eval()
    assert student.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(student.model.rotary_emb.inv_freq, teacher.model.rotary_emb.inv_freq)
    ids = torch.randint(2, 40, (1, 60))
    assert torch.equal(student(ids).logits, teacher(ids).logits)


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_narrower_residual_keeps_the_head_size(tmp_path, kind):
    """Qwen2's config has no head size of its own; a reloaded student must still know it."""
    student = student_from_teacher(_teacher(kind), hidden_size=16).eval()
    student.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.model.layers[0].self_attn.head_dim == 4
    assert torch.equal(again(_ids()).logits, student(_ids()).logits)


def test_attention_implementation_is_the_teachers():
    teacher = _teacher()
    teacher.set_attn_implementation("eager")
    assert student_from_teacher(teacher).config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hidden_layers": 6}, "has 5 layers"),
        ({"num_hidden_layers": 0}, "has 5 layers"),
        ({"num_hidden_layers": 2, "layers": [0]}, "twice"),
        ({"layers": [0, 5]}, "0 to 4"),
        ({"layers": []}, "0 to 4"),
        ({"layers": [-1]}, "0 to 4"),
        ({"hidden_size": 64}, "hidden_size=64: the teacher has 32"),
        ({"intermediate_size": 49}, "intermediate_size=49: the teacher has 48"),
        ({"num_attention_heads": 16}, "num_attention_heads=16: the teacher has 8"),
        ({"num_key_value_heads": 8}, "num_key_value_heads=8: the teacher has 4"),
        ({"head_dim": 8}, "head_dim=8: the teacher has 4"),
        ({"hidden_size": 16.0}, "hidden_size=16.0"),
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


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (Qwen3MoeForCausalLM, Qwen3MoeConfig(**SIZES, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8)),
        (Gemma2ForCausalLM, Gemma2Config(**SIZES)),
        (Olmo2ForCausalLM, Olmo2Config(**SIZES)),
        (ArceeForCausalLM, ArceeConfig(**SIZES)),
        (Qwen2ForSequenceClassification, Qwen2Config(**SIZES)),
        (Qwen2Model, Qwen2Config(**SIZES)),
    ],
)
def test_other_shapes_are_refused(model, config):
    with pytest.raises(ValueError, match=f"'{config.model_type}'.*Llama, Mistral, Qwen2 and Qwen3"):
        student_from_teacher(model(config))


def test_step_reasoner_is_refused(step_model):
    with pytest.raises(ValueError, match="step_reasoner"):
        student_from_teacher(step_model())


def test_weights_that_are_not_plain_are_refused(tmp_path):
    peft = pytest.importorskip("peft")
    adapted = _teacher()
    peft.get_peft_model(adapted, peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="merge adapters"):
        student_from_teacher(adapted)
    with pytest.raises(ValueError, match="offloading"):
        student_from_teacher(_teacher().to("meta"))
    quantised = _teacher()
    quantised.is_quantized = True
    with pytest.raises(ValueError, match="own precision"):
        student_from_teacher(quantised)
    teacher = _teacher()
    teacher.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    teacher.config.save_pretrained(tmp_path)  # no weights there: refused before any are looked for
    for quantised in (teacher, str(tmp_path)):
        with pytest.raises(ValueError, match="own precision"):
            student_from_teacher(quantised)


def test_sizes_that_could_not_be_saved_are_refused_at_once():
    with pytest.raises(ValueError, match="(?s)'llama'.*multiple"):
        student_from_teacher(_teacher("llama"), hidden_size=20)
    assert student_from_teacher(_teacher("qwen2"), hidden_size=20).config.hidden_size == 20
