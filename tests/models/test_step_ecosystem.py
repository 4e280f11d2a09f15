"""StepReasoner with the tools that take a causal LM: PEFT, saving and loading, resizing, pipelines, evaluation."""

import copy
import pickle

import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline

import hf_reason
from hf_reason.evaluation import evaluate_model
from hf_reason.models.step_reasoner.modeling_step_reasoner import StepReasonerForCausalLM
from hf_reason.text import encode
from hf_reason.text.tokens import align_generation_config, end_token_id, ensure_pad_token, fit_embeddings


@pytest.fixture
def model(text_model):
    return text_model()


@pytest.fixture
def row(records, tokenizer):
    """Token ids and labels of one example, [1, time]."""
    return {name: torch.tensor([column]) for name, column in encode(records[0], tokenizer).items()}


@pytest.fixture
def ids(row):
    return row["input_ids"]


@torch.no_grad()
def _logits(model, ids):
    return model.eval()(input_ids=ids, use_cache=False).logits


# Three ways to say "the reasoner's query and value projections".
_REASONER_ONLY = [
    {"target_modules": r"model\.reasoner\.\d+\.self_attn\.(q|v)_proj"},
    {"target_modules": ["q_proj", "v_proj"], "layers_pattern": "reasoner", "layers_to_transform": [0, 1]},
    {"target_modules": [f"reasoner.{i}.self_attn.{p}_proj" for i in (0, 1) for p in "qv"]},
]


@pytest.mark.parametrize("targets", _REASONER_ONLY, ids=["regex", "layers_pattern", "suffixes"])
def test_lora_on_the_reasoner_by_name(tmp_path, model, row, ids, targets):
    from peft import LoraConfig, PeftModel, get_peft_model

    before, base_logits = copy.deepcopy(model), _logits(model, ids)
    config = LoraConfig(r=2, lora_alpha=8, task_type="CAUSAL_LM", **targets)
    adapted = get_peft_model(model, config)
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trainable == {
        f"base_model.model.model.reasoner.{layer}.self_attn.{name}_proj.lora_{side}.default.weight"
        for layer in (0, 1)
        for name in "qv"
        for side in "AB"
    }
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = adapted.train()(input_ids=ids, labels=row["labels"], use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    state = {name: p for name, p in adapted.named_parameters() if "lora_" not in name}
    for (name, new), old in zip(state.items(), before.parameters(), strict=True):
        assert torch.equal(new, old), name
    logits = _logits(adapted, ids)
    assert not torch.allclose(logits, base_logits, atol=1e-3)
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(before, tmp_path / "adapter")
    assert torch.equal(_logits(loaded, ids), logits)
    prompt = ids[:, :60]
    written = adapted.generate(input_ids=prompt, max_new_tokens=10, do_sample=False)
    merged = adapted.merge_and_unload()
    assert isinstance(merged, StepReasonerForCausalLM)
    assert torch.allclose(_logits(merged, ids), logits, atol=1e-4)
    assert torch.equal(merged.generate(input_ids=prompt, max_new_tokens=10, do_sample=False), written)


def test_lora_on_all_linear_layers(model, ids, row):
    from peft import LoraConfig, get_peft_model

    linear = sum(isinstance(m, torch.nn.Linear) for m in model.modules()) - 1  # not the head
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert sum(p.requires_grad for p in adapted.parameters()) == 2 * linear
    adapted.train()(input_ids=ids, labels=row["labels"], use_cache=False).loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("tied", [False, True])
def test_saved_in_shards_and_loaded(tmp_path, text_model, ids, tied):
    """Also by way of the meta device, where buffers that are not saved have to be made anew."""
    model = text_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    expected = _logits(model, ids)
    for options in ({}, {"device_map": "cpu"}, {"device_map": "auto"}):
        loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True, **options)
        assert isinstance(loaded, StepReasonerForCausalLM)
        assert not any(report.values())
        assert torch.equal(_logits(loaded, ids), expected)
        assert loaded.config.boundary_token_ids == model.config.boundary_token_ids != []
        assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    bare = hf_reason.StepReasonerModel.from_pretrained(tmp_path)
    assert torch.equal(bare(ids).last_hidden_state @ model.lm_head.weight.T, expected)


def test_bfloat16_saved_and_loaded(tmp_path, model, ids):
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    for left, right in zip(loaded.parameters(), half.parameters(), strict=True):
        assert torch.equal(left, right)
    logits = _logits(loaded, ids)
    assert logits.dtype == torch.bfloat16
    assert torch.allclose(logits.float(), _logits(model, ids), atol=0.2)
    assert loaded.generate(ids[:, :60], max_new_tokens=8, min_new_tokens=8).shape[1] == 68
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32").dtype == torch.float32


def test_copies_and_pickles(model, ids):
    expected = _logits(model, ids)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(_logits(again, ids), expected)
        with torch.no_grad():
            again.lm_head.weight.add_(1)
        assert torch.equal(_logits(model, ids), expected)
    # after a generation, which leaves something behind in the model
    model.generate(ids[:, :60], max_new_tokens=4)
    assert torch.equal(_logits(pickle.loads(pickle.dumps(model)), ids), expected)
    for config in (copy.deepcopy(model.config), pickle.loads(pickle.dumps(model.config))):
        assert config.to_dict() == model.config.to_dict()


def test_boundaries_changed_after_a_generation_count(model, ids):
    """What a generation keeps in the model may not outlive the config it was made from."""
    prompt = {"input_ids": ids[:, :60], "do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12}
    model.generate(**prompt)
    model.config.boundary_token_ids, model.config.trigger_token_ids = list(range(0, model.config.vocab_size, 2)), []
    again = model.generate(**prompt)
    assert torch.equal(again, model.generate(**prompt, use_cache=False))


@pytest.mark.parametrize("tied", [False, True])
def test_resized_embeddings_leave_old_ids_alone(tokenizer, text_model, ids, row, tied):
    model = text_model(tie_word_embeddings=tied)
    before, size = _logits(model, ids), len(tokenizer)
    model.resize_token_embeddings(size + 3, pad_to_multiple_of=64)
    width = -(-(size + 3) // 64) * 64
    assert model.lm_head.weight.shape[0] == model.get_input_embeddings().weight.shape[0] == width
    assert model.config.vocab_size == width
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    after = _logits(model, ids)
    assert after.shape[-1] == width
    assert torch.allclose(after[..., :size], before, atol=1e-5)
    assert model.model.plan_slots.weight.shape[0] == 1
    assert model(input_ids=ids, labels=row["labels"]).loss.isfinite()


def test_the_projects_token_helpers(model, tokenizer, ids):
    tokenizer.pad_token = None
    before = _logits(model, ids)
    tokenizer.add_tokens(["<new>"])
    ensure_pad_token(tokenizer)
    assert fit_embeddings(model, tokenizer) and not fit_embeddings(model, tokenizer)
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)
    assert torch.allclose(_logits(model, ids)[..., : before.shape[-1]], before, atol=1e-5)
    align_generation_config(model, tokenizer)
    assert model.generation_config.eos_token_id[0] == end_token_id(tokenizer)
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id


def test_pipeline_writes_what_generate_writes(model, tokenizer, records):
    prompts = [records[0]["context"], records[1]["context"][:20]]
    options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
    writer = pipeline("text-generation", model=model, tokenizer=tokenizer)
    outputs = writer(prompts, batch_size=2, return_tensors=True, **options)
    for prompt, output in zip(prompts, outputs, strict=True):
        alone = model.generate(**tokenizer(prompt, return_tensors="pt"), **options)[0].tolist()
        # the shorter row has padding in front
        assert output[0]["generated_token_ids"][-16:] == alone[-16:]
    chat = writer([{"role": "user", "content": prompts[0]}], max_new_tokens=4)
    assert chat[0]["generated_text"][-1]["role"] == "assistant"


def test_evaluation_with_distractors(model, tokenizer, records):
    results = evaluate_model(
        model,
        tokenizer,
        records[:3],
        max_completion_length=12,
        batch_size=3,
        distractors=True,
        return_predictions=True,
        progress=False,
    )
    assert results["num_records"] == 3
    assert results["distracted_accuracy"] == 0.0
    assert all(0 < p["num_tokens"] <= 12 for p in results["predictions"])
    # one at a time and without a cache it writes the same
    one = evaluate_model(
        model,
        tokenizer,
        records[:3],
        max_completion_length=12,
        batch_size=1,
        return_predictions=True,
        progress=False,
        generation_kwargs={"use_cache": False},
    )
    assert [p["text"] for p in one["predictions"]] == [p["text"] for p in results["predictions"]]


def test_hidden_states_are_those_of_the_decoder_stack(model, ids):
    """The embeddings, each layer and the last one normalised, on the chain; with a cache the same, token by token."""
    model.eval()
    plain = model(input_ids=ids)
    layers = len(model.model.decoder)
    for call in (model, model.model):
        states = call(input_ids=ids, output_hidden_states=True).hidden_states
        assert len(states) == layers + 1 and {state.shape for state in states} == {states[0].shape}
        assert torch.equal(model.lm_head(states[-1]), plain.logits)
        assert call(input_ids=ids, output_hidden_states=False).hidden_states is None
    chain = states[-1].abs().sum(-1) > 0
    assert torch.equal(states[0][chain], model.get_input_embeddings()(ids)[chain])
    captured = []
    model.model.decoder[0].register_forward_hook(lambda module, args, output: captured.append(output))
    again = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert torch.equal(again[1][chain], captured[0].flatten(0, 1)[-int(chain.sum()) :])
    cut = ids.shape[1] - 9
    cache = model(input_ids=ids[:, :cut], use_cache=True).past_key_values
    for place in range(cut, ids.shape[1]):
        one = model(input_ids=ids[:, place : place + 1], past_key_values=cache, output_hidden_states=True)
        for state, whole in zip(one.hidden_states, states, strict=True):
            assert torch.allclose(state[:, 0], whole[:, place], atol=1e-4)
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "return_dict_in_generate": True, "output_hidden_states": True}
    written = model.generate(ids[:, :20], **options)
    assert [len(step) for step in written.hidden_states] == [layers + 1] * 3
    model.config.output_hidden_states = True
    assert len(model(input_ids=ids).hidden_states) == layers + 1


def test_attentions_are_refused(model, ids):
    """They would not be lists of one shape, and None would be a lie to who asked for them."""
    for call in (model, model.model):
        with pytest.raises(ValueError, match="output_attentions: .*forward hooks"):
            call(input_ids=ids, output_attentions=True)
        call(input_ids=ids, output_attentions=False)
    with pytest.raises(ValueError, match="output_attentions: .*forward hooks"):
        model.generate(ids[:, :20], max_new_tokens=2, return_dict_in_generate=True, output_attentions=True)
    model.set_attn_implementation("eager")
    model.config.output_attentions = True
    with pytest.raises(ValueError, match="output_attentions: .*forward hooks"):
        model(input_ids=ids)
