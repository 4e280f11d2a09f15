"""A StepReasoner from a decoder-only model: what is copied, which layer goes where, and what is refused."""

import warnings

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hf_reason.models.step_reasoner.conversion_step_reasoner import choose_layers
from hf_reason.models.step_reasoner.modeling_step_reasoner import StepReasonerForCausalLM

SIZES = {
    "vocab_size": 53,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,  # not hidden_size / heads
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "rms_norm_eps": 1e-4,
    "bos_token_id": 3,
    "eos_token_id": [1, 2],
    "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama3-rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}


def source_model(family: str = "qwen2", dtype=torch.float64, **changes):
    config_class, model_class, more = FAMILIES[family]
    torch.manual_seed(0)
    model = model_class(config_class(**{**SIZES, "tie_word_embeddings": False, **more, **changes}))
    with torch.no_grad():  # norms and biases start at one and zero, where a copy could not be told from none
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.to(dtype).eval()


def convert(source, **arguments):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This StepReasoner does not know its tokens")
        return StepReasonerForCausalLM.from_decoder_only(source, **arguments)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_the_sources(family, tied):
    source = source_model(family, tie_word_embeddings=tied)
    model = convert(source, encoder_layers=[0, 1], reasoner_layers=[2, 3], decoder_layers=[3, 4], plan_slots=2)
    stacks = {"encoder": [0, 1], "reasoner": [2, 3], "decoder": [3, 4]}
    expected = {}
    for name, value in source.state_dict().items():
        if ".layers." not in name:
            expected[name] = value
            continue
        number, rest = name.removeprefix("model.layers.").split(".", 1)
        for stack, numbers in stacks.items():
            for place, wanted in enumerate(numbers):
                if wanted == int(number):
                    expected[f"model.{stack}.{place}.{rest}"] = value
    found = model.state_dict()
    slots = found.pop("model.plan_slots.weight")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert 0.1 < slots.std() < 0.3  # drawn with the source's initializer_range
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in source.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_in_the_decoder_and_no_prompt_are_the_source_exactly(family):
    source = source_model(family)
    model = convert(source, encoder_layers=0, reasoner_layers=0)
    model.config.thought_start_token_ids, model.config.boundary_token_ids = [5], [6]
    ids = torch.randint(7, 53, (2, 40))
    ids[:, 0], ids[:, 9], ids[1, 20] = 5, 6, 6
    with torch.no_grad():
        difference = (model(ids).logits - source(ids).logits).abs().max()
    assert difference < 1e-12
    plain = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids[:, :1], **plain), source.generate(ids[:, :1], **plain))


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_encoder_and_reasoner_layers_compute_what_the_sources_do(family):
    """The source, told by a mask to look ahead as far as StepReasoner's stacks do."""
    source = source_model(family)
    ids = torch.randint(7, 53, (1, 12))
    ids[:, 0] = 5
    ids[:, [3, 8]] = 6
    piece = torch.tensor([0] * 4 + [1] * 5 + [2] * 3)
    with torch.no_grad():
        by_piece, whole = (
            source.model(ids, attention_mask=visible[None, None], output_hidden_states=True).hidden_states[4]
            for visible in (piece[:, None] >= piece, torch.ones(12, 12, dtype=torch.bool))
        )
    seen = {}

    def record(name):
        return lambda module, inputs, output: seen.__setitem__(name, output)

    model = convert(source, encoder_layers=0, reasoner_layers=4)
    model.config.thought_start_token_ids, model.config.boundary_token_ids = [5], [6]
    model.model.reasoner[-1].register_forward_hook(record("reasoner"))
    encoding = convert(source, encoder_layers=4)
    encoding.model.encoder[-1].register_forward_hook(record("encoder"))
    with torch.no_grad():
        model(ids)
        encoding(ids)
    assert (by_piece - whole).abs().max() > 1e-2
    assert (seen["reasoner"] - by_piece).abs().max() < 1e-12
    assert (seen["encoder"] - whole).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("total", "sizes"), [(1, (0, 0, 1)), (3, (1, 1, 1)), (21, (12, 6, 3)), (24, (14, 7, 3)), (28, (16, 8, 4))]
)
def test_default_split_uses_every_layer_once_in_order(total, sizes):
    layers = choose_layers(total, None, None, None)
    assert tuple(len(numbers) for numbers in layers.values()) == sizes
    assert [number for numbers in layers.values() for number in numbers] == list(range(total))


def test_counts_and_lists_of_layers():
    def sizes(*arguments):
        return tuple(len(numbers) for numbers in choose_layers(21, *arguments).values())

    assert sizes(9, None, None) == (9, 8, 4)
    assert sizes(None, None, 6) == (10, 5, 6)
    assert sizes(None, 0, None) == (17, 0, 4)
    assert sizes(10, 0, None) == (10, 0, 11)
    assert choose_layers(5, 2, 1, 2) == {"encoder": [0, 1], "reasoner": [2], "decoder": [3, 4]}
    assert choose_layers(5, range(2), [], [4, 4]) == {"encoder": [0, 1], "reasoner": [], "decoder": [4, 4]}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((2, 2, 2), "encoder_layers=2 .* does not divide the 5 layers .* Leave one out"),
        ((6, None, None), "encoder_layers=6 does not divide the 5 layers"),
        ((3, -1, 3), "reasoner_layers=-1 .* does not divide"),
        ((5, None, None), "decoder_layers has to leave at least one layer"),
        ((4, 1, 0), "decoder_layers has to leave at least one layer"),
        (([0], [1], [5]), r"decoder_layers: \[5\] are no layers of the source, which has 0 to 4"),
        (([0], [-1], [4]), r"reasoner_layers: \[-1\] are no layers"),
        (([0], [1], []), "decoder_layers has to name at least one layer"),
        (([0, 1], None, [4]), "reasoner_layers=None beside a list: give all three as lists"),
        (([0, 1], 2, [4]), "reasoner_layers=2 beside a list"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        choose_layers(5, *layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_generation_config_and_dtype_are_the_sources(family):
    source = source_model(family, dtype=torch.bfloat16, attn_implementation="eager")
    source.generation_config.update(temperature=0.6, do_sample=True, repetition_penalty=1.1)
    model = convert(source, max_piece_length=7)
    for name, value in SIZES.items():
        if name != "rope_parameters":
            assert getattr(model.config, name) == value, name
    assert model.config.rope_parameters == source.config.rope_parameters
    assert model.config.rope_parameters is not source.config.rope_parameters
    assert model.config.max_piece_length == 7
    assert model.config._attn_implementation == "eager"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.generation_config.to_dict() == source.generation_config.to_dict()
    model.generation_config.temperature = 0.1
    assert source.generation_config.temperature == 0.6


def test_windows_go_on_in_the_encoder_only():
    source = source_model("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    config = convert(source, encoder_layers=2).config
    assert config.layer_types == ["full_attention", "sliding_attention"] + 3 * ["full_attention"]
    assert config.sliding_window == 4
    mistral = convert(source_model("mistral", sliding_window=6), encoder_layers=2).config
    assert mistral.layer_types[:3] == 2 * ["sliding_attention"] + ["full_attention"]
    assert convert(source_model("mistral", sliding_window=6), encoder_layers=0).config.sliding_window is None


def test_folder_with_its_tokenizer_saved_and_reloaded(tmp_path, tokenizer):
    source = source_model("qwen3", dtype=torch.float32, vocab_size=len(tokenizer) + 60)  # a padded vocabulary
    source.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = StepReasonerForCausalLM.from_decoder_only(
            tmp_path / "source", triggers="=", plan_slots=1, dtype=torch.float64
        )
    assert model.config.vocab_size == len(tokenizer) + 60 == model.lm_head.weight.shape[0]
    assert model.config.thought_start_token_ids == [tokenizer.convert_tokens_to_ids("<think>")]
    assert tokenizer.convert_tokens_to_ids("=") in model.config.trigger_token_ids
    assert model.dtype == torch.float64 and not model.training
    model.save_pretrained(tmp_path / "converted")
    again = StepReasonerForCausalLM.from_pretrained(tmp_path / "converted", dtype=torch.float64)
    ids = tokenizer("1+1\n<think>\n2=2\n3=3\n", return_tensors="pt").input_ids
    with torch.no_grad():
        assert (again(ids).logits - model(ids).logits).abs().max() < 1e-12


def test_tokens_come_from_the_tokenizer_that_is_given(tmp_path, tokenizer):
    source = source_model(vocab_size=len(tokenizer))
    model = StepReasonerForCausalLM.from_decoder_only(source, tokenizer=tokenizer, boundaries=("=",))
    assert model.config.boundary_token_ids == sorted(
        i for i in range(len(tokenizer)) if "=" in tokenizer.decode([i]) and i not in tokenizer.all_special_ids
    )
    with pytest.raises(ValueError, match="no token '<thought>'"):
        StepReasonerForCausalLM.from_decoder_only(source, tokenizer=tokenizer, thought_start="<thought>")
    with pytest.raises(ValueError, match=r"resize_token_embeddings\(len\(tokenizer\)\)"):
        StepReasonerForCausalLM.from_decoder_only(source_model(vocab_size=20), tokenizer=tokenizer)
    tokenizer.save_pretrained(tmp_path)
    assert convert(source, tokenizer=tmp_path, boundaries=("=",)).config == model.config


def test_without_tokens_a_warning_says_what_to_call(tmp_path, tokenizer):
    source = source_model(vocab_size=len(tokenizer))
    with pytest.warns(UserWarning, match=r"no tokenizer was given. Call model.config.set_tokens\(tokenizer"):
        model = StepReasonerForCausalLM.from_decoder_only(source)
    assert model.config.thought_start_token_ids == model.config.boundary_token_ids == []
    source.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="does not know its tokens yet"):  # a folder without a tokenizer
        StepReasonerForCausalLM.from_decoder_only(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no token '<thought>'.*tokenizer.add_tokens"):
        StepReasonerForCausalLM.from_decoder_only(tmp_path, thought_start="<thought>")


def test_models_of_another_build_are_refused_before_any_weight_loads(tmp_path, monkeypatch):
    sizes = {name: SIZES[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
    mixtral = MixtralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, num_local_experts=2)
    MixtralForCausalLM(mixtral).save_pretrained(tmp_path / "experts")
    monkeypatch.setattr(
        "hf_reason.models.step_reasoner.conversion_step_reasoner.AutoModelForCausalLM.from_pretrained", None
    )
    with pytest.raises(ValueError, match="type 'mixtral' cannot be converted.*llama, mistral, qwen2, qwen3"):
        convert(str(tmp_path / "experts"))
    with pytest.raises(ValueError, match="does not divide the 5 layers"):
        folder = tmp_path / "plain"
        source_model().config.save_pretrained(folder)
        convert(folder, encoder_layers=9)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama", {"mlp_bias": True}, "llama with mlp_bias=True has biases"),
        ("llama", {"attention_bias": True}, "llama with attention_bias=True"),
        ("qwen3", {"attention_bias": True}, "qwen3 with attention_bias=True"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
    ],
)
def test_blocks_with_more_than_ours_are_refused(family, changes, message):
    with pytest.raises(ValueError, match=message):
        convert(source_model(family, **changes))


def test_quantised_adapted_and_headless_models_are_refused():
    source = source_model()
    source.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(ValueError, match="Quantised weights.*unquantised checkpoint"):
        convert(source)
    source = source_model()
    source.model.layers[1].mlp.up_proj.lora_A = torch.nn.Linear(32, 2)
    with pytest.raises(ValueError, match="mlp.up_proj.lora_A.*Merge adapters first"):
        convert(source)
    with pytest.raises(ValueError, match="Qwen2Model has no language modelling head"):
        convert(Qwen2Model(source_model().config))
    with pytest.raises(ValueError, match="not a Linear.*merge_and_unload"):
        convert(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="revision: for loading a model by name"):
        convert(source_model(), revision="main")


def test_a_name_that_cannot_be_loaded():
    with pytest.raises(ValueError, match="./nowhere: there is no such folder"):
        convert("./nowhere")
    with pytest.raises(ValueError, match="'nobody/nothing' is no folder with a model and cannot be loaded"):
        convert("nobody/nothing")
