"""Only what was asked for steers generation; what cannot work is refused; what a model cannot read is named."""

import logging
from typing import Any

import pytest
import torch
from tiny import tiny_model, tiny_qwen2
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig

from hf_reason import evaluate_model, generate_cot
from hf_reason.generation.batching import generate_ids
from hf_reason.generation.settings import generation_config, only_asked_for
from hf_reason.models.context import position_limit
from hf_reason.text import CoTCollator, encode
from hf_reason.trainers.on_policy import own_completions

QUESTION = "小明有12个苹果,又买来25个。现在有多少个?"
SHARP = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4}
BUDGET = {"max_thought_tokens": 9, "max_answer_tokens": 2}
# What published generation configs bring along, and what would change or break every output, in groups that can stand
# in one config.
OWN: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.01},
    "cutoffs": {"min_p": 0.9, "typical_p": 0.1, "top_h": 0.1, "epsilon_cutoff": 0.5, "eta_cutoff": 0.5},
    "beams": {"num_beams": 3, "early_stopping": True, "length_penalty": 9.0},
    "beams and samples": {"num_beams": 3, "num_return_sequences": 3},
    "groups of beams": {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 1.0},
    "repetition": {"repetition_penalty": 5.0, "encoder_repetition_penalty": 5.0, "no_repeat_ngram_size": 1},
    "bad words": {"bad_words_ids": [[token] for token in range(20, 200)]},
    "suppressed": {"suppress_tokens": list(range(20, 200)), "begin_suppress_tokens": list(range(20, 200))},
    "biased": {"sequence_bias": [[[30], 50.0]], "renormalize_logits": True},
    "forced": {"forced_bos_token_id": 30, "forced_eos_token_id": 30, "exponential_decay_length_penalty": (1, 9.0)},
    "guidance": {"guidance_scale": 3.0},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "dola": {"dola_layers": "low"},
    "assisted": {"prompt_lookup_num_tokens": 3, "num_assistant_tokens": 2},
    "cache": {"cache_implementation": "static", "max_cache_len": 4},
    "no cache": {"use_cache": False, "return_dict_in_generate": True, "output_scores": True},
    "lengths": {"max_length": 3, "max_new_tokens": 2, "min_new_tokens": 12, "min_length": 400, "max_time": 1e-9},
    "strings": {"stop_strings": ["1"], "token_healing": True},
    "watermark": {"watermarking_config": {"bias": 50.0, "seeding_scheme": "selfhash"}},
}


def _model(tokenizer):
    return tiny_qwen2(tokenizer, **SHARP).double().eval()


def _sampled(model, tokenizer):
    """Outputs of the three ways to sample at a temperature that is asked for, and greedily."""
    record = {"context": QUESTION, "steps": ["12+25=37"], "answer": "37"}
    batch = CoTCollator(pad_token_id=tokenizer.pad_token_id)([encode(record, tokenizer)] * 4)
    torch.manual_seed(0)
    own = own_completions(
        model, batch, tokenizer, CoTCollator(pad_token_id=tokenizer.pad_token_id), max_new_tokens=6, temperature=1.0
    )
    chains = generate_cot(model, tokenizer, QUESTION, num_samples=2, temperature=1.0, **BUDGET)[0].chains
    greedy = generate_cot(model, tokenizer, QUESTION, **BUDGET)
    return own["input_ids"].tolist(), chains, greedy


@pytest.fixture(scope="module")
def expected(_session_tokenizer):
    """What a model writes whose own generation config is empty."""
    return _sampled(_model(_session_tokenizer), _session_tokenizer)


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_settings_do_not_leak(tokenizer, name, expected):
    model = _model(tokenizer)
    model.generation_config.update(**OWN[name])
    before = model.generation_config.to_dict()
    assert _sampled(model, tokenizer) == expected
    assert model.generation_config.to_dict() == before


def test_all_of_them_together_and_inside_a_lora(tokenizer, expected):
    from peft import LoraConfig, get_peft_model

    model = _model(tokenizer)
    model.generation_config = GenerationConfig()
    together = {name: value for group in OWN.values() for name, value in group.items()}
    for name in ("watermarking_config", "suppress_tokens", "num_return_sequences"):  # contradict others
        together.pop(name)
    model.generation_config.update(**together)
    assert _sampled(model, tokenizer) == expected
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).eval()
    assert _sampled(wrapped, tokenizer) == expected


def test_a_temperature_is_all_of_the_distribution_and_without_one_the_models_own_holds(tokenizer):
    model = _model(tokenizer)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, top_k=20, min_p=0.5)
    asked = generation_config(model, tokenizer, max_new_tokens=4, temperature=1)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p) == (1.0, 1.0, 0, None)
    own = generation_config(model, tokenizer, max_new_tokens=4, num_samples=2)
    assert (own.temperature, own.top_p, own.top_k, own.min_p) == (0.6, 0.95, 20, None)
    model.generation_config.update(temperature=0.0)  # DeepSeek's and others' word for greedy
    assert generation_config(model, tokenizer, max_new_tokens=4, num_samples=2).temperature == 1.0
    sampled = generation_config(model, tokenizer, max_new_tokens=4, generation_kwargs={"do_sample": True, "top_k": 5})
    assert (sampled.do_sample, sampled.top_k, sampled.top_p) == (True, 5, 0.95)
    (whole,) = generate_cot(model, tokenizer, QUESTION, temperature=2, **BUDGET)  # an int is a number too
    assert whole.thought_tokens


def test_an_interrupted_generation_gives_the_config_back(tokenizer):
    model = _model(tokenizer)
    own = model.generation_config
    with pytest.raises(KeyboardInterrupt), only_asked_for(model):
        assert model.generation_config is not own
        raise KeyboardInterrupt
    assert model.generation_config is own


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "Leave num_beams out"),
        ({"num_beams": 4, "do_sample": True}, "Leave num_beams out"),
        ({"num_return_sequences": 3}, "num_return_sequences is not accepted here. Use num_samples"),
        ({"max_new_tokens": 3}, "max_new_tokens is not accepted here. The lengths are arguments"),
        ({"max_length": 20}, "max_length is not accepted"),
        ({"stop_strings": ["。"]}, "stop_strings is not accepted here. Outputs end at token ids"),
        ({"max_time": 1.0}, "max_time is not accepted"),
        ({"prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens is not accepted"),
        ({"assistant_early_exit": 1}, "assistant_early_exit is not accepted"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha is not accepted here. transformers no longer"),
        ({"dola_layers": "high"}, "dola_layers is not accepted"),
        ({"force_words_ids": [[5]]}, "force_words_ids is not accepted"),
        ({"token_healing": True}, "token_healing is not accepted"),
        ({"logits_processor": []}, "logits_processor is not accepted here. It is an argument of generate"),
        ({"stopping_criteria": []}, "stopping_criteria is not accepted"),
        ({"streamer": object()}, "streamer is not accepted"),
        ({"assistant_model": object()}, "assistant_model is not accepted"),
        ({"tempratur": 2}, "GenerationConfig has no setting tempratur"),
        ({"top_p": 0.9}, "`top_p`: `do_sample` is not set to `True`"),
        ({"temperature": 0.7}, "`temperature`: `do_sample` is not set to `True`"),
        ({"min_p": 0.1}, "`min_p`: `do_sample`"),
        ({"length_penalty": 2.0}, "`length_penalty`"),
        ({"early_stopping": True}, "`early_stopping`"),
        ({"early_stopping": "sometimes"}, "early_stopping"),
        ({"cache_implementation": "no such"}, "cache_implementation"),
        ({"use_cache": False, "cache_implementation": "static"}, "cache_implementation"),
        ({"pad_token_id": -1}, "pad_token_id"),
        ({"output_scores": True}, "output_scores"),
        ({"forced_eos_token_id": 5, "suppress_tokens": [5]}, "forced_eos_token_id"),
    ],
)
def test_what_cannot_have_its_effect_is_refused_in_one_line(tokenizer, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        generate_cot(_model(tokenizer), tokenizer, QUESTION, generation_kwargs=settings, **BUDGET)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("temperature", [-0.5, float("nan"), float("inf")])
def test_impossible_temperatures(tokenizer, temperature):
    with pytest.raises(ValueError, match="temperature is .*; it must be a finite number"):
        generate_cot(_model(tokenizer), tokenizer, QUESTION, temperature=temperature)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 1, "num_beams": 1, "max_new_tokens": None, "stop_strings": None},
        {"no_repeat_ngram_size": 1, "repetition_penalty": 50.0},
        {"suppress_tokens": [30, 31], "bad_words_ids": [[32]]},
        {"min_new_tokens": 6},
        {"return_dict_in_generate": True, "output_scores": True},
        {"cache_implementation": "static", "disable_compile": True},
        {"guidance_scale": 1.5},
        {"do_sample": True, "min_p": 0.05, "temperature": 0.7},
    ],
    ids=lambda settings: next(reversed(settings)),
)
def test_what_is_asked_for_works(tokenizer, settings):
    model = _model(tokenizer)
    (output,) = generate_cot(model, tokenizer, QUESTION, generation_kwargs=settings, **BUDGET)
    assert output.thought_tokens == 9 and output.closed_by == "budget"


def test_what_is_asked_for_has_its_effect(tokenizer):
    model = _model(tokenizer)
    (plain,) = generate_cot(model, tokenizer, QUESTION, **BUDGET)
    others = [token for token in range(len(tokenizer)) if token != 30]
    (other,) = generate_cot(model, tokenizer, QUESTION, generation_kwargs={"suppress_tokens": others}, **BUDGET)
    assert set(other.thought) == set(tokenizer.decode([30])) != set(plain.thought)


def test_beams_work_where_no_budget_is_counted(tokenizer, records):
    model, options = _model(tokenizer), {"max_completion_length": 6, "progress": False, "return_predictions": True}
    beams = evaluate_model(model, tokenizer, records[:3], generation_kwargs={"num_beams": 3}, **options)
    assert beams.generation["num_beams"] == 3 and len(beams.predictions) == 3
    several = {"num_samples": 2, "generation_kwargs": {"num_beams": 2}}
    assert len(evaluate_model(model, tokenizer, records[:2], **several, **options).predictions) == 4


def _ids(model, tokenizer, prompts, **options):
    config = generation_config(model, tokenizer, max_new_tokens=4, **options)
    return generate_ids(model, prompts, config, batch_size=4)


def test_prompts_that_cannot_be_read_are_named(tokenizer):
    model = _model(tokenizer)
    with pytest.raises(ValueError, match=r"prompts\[1\] is empty"):
        _ids(model, tokenizer, [[5, 6], []])
    with pytest.raises(ValueError, match=r"the id 9999, but the model has \d+ embeddings"):
        _ids(model, tokenizer, [[5, 9999]])
    short = tiny_qwen2(tokenizer, vocab_size=300).eval()
    tokenizer.add_tokens([f"词{number}" for number in range(20)])
    with pytest.raises(ValueError, match="but the model has 300 embeddings"):
        evaluate_model(short, tokenizer, [{"context": "词3和词4", "steps": [], "answer": ""}], progress=False)
    bart = BartForConditionalGeneration(
        BartConfig(vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16)
    )
    for call in (
        generate_cot,
        lambda *inputs: evaluate_model(*inputs[:2], [{"context": "?", "steps": [], "answer": ""}]),
    ):
        with pytest.raises(ValueError, match="^BartForConditionalGeneration is an encoder-decoder model"):
            call(bart, tokenizer, QUESTION)


def test_special_tokens_beyond_the_embedding_pad_and_stop_nothing(tokenizer):
    """A pad token added to the tokenizer alone, and no EOS anywhere: padding is masked, outputs end by length."""
    model = tiny_qwen2(tokenizer, **SHARP).double().eval()
    expected = _ids(model, tokenizer, [[5, 6, 7], [8]])
    tokenizer.add_special_tokens({"pad_token": "<|new pad|>", "eos_token": "<|new end|>"})
    assert tokenizer.pad_token_id >= model.config.vocab_size
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = None
    assert _ids(model, tokenizer, [[5, 6, 7], [8]]) == expected
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.chat_template = None
    config = generation_config(model, tokenizer, max_new_tokens=4)
    assert config.eos_token_id is None and config.pad_token_id == 0
    assert [len(row[0]) for row in _ids(model, tokenizer, [[5, 6, 7], [8]])] == [4, 4]


@pytest.mark.parametrize(
    ("model_type", "fields", "limit"),
    [
        ("gpt2", {"n_positions": 40, "max_position_embeddings": 40}, (40, True)),
        ("opt", {"max_position_embeddings": 40}, (40, True)),
        ("gpt_neo", {"max_position_embeddings": 40}, (40, True)),
        ("gptj", {"n_positions": 40, "max_position_embeddings": 40}, (40, True)),
        ("mpt", {"max_seq_len": 40}, (40, True)),
        ("qwen2", {"max_position_embeddings": 40}, (40, False)),
        ("gpt_neox", {"max_position_embeddings": 40}, (40, False)),
        ("falcon_alibi", {}, None),
        ("bloom", {}, (None, False)),
        ("mamba", {}, (None, False)),
    ],
)
def test_a_context_that_ends(tokenizer, caplog, model_type, fields, limit):
    model = tiny_model(tokenizer, model_type, **fields).eval()
    if limit is not None:
        assert position_limit(model) == limit
    prompts = [list(range(20, 50))]
    if limit is not None and limit[1]:
        assert len(_ids(model, tokenizer, [prompts[0] + [5] * 6])[0][0]) <= 4
        with pytest.raises(ValueError, match="40 positions: the longest prompt has 37 tokens.*at most 3 new tokens"):
            _ids(model, tokenizer, [prompts[0] + [5] * 7])
        with pytest.raises(ValueError, match="the longest prompt has 40 tokens.*Shorten the prompts"):
            _ids(model, tokenizer, [prompts[0] + [5] * 10])
        return
    with caplog.at_level(logging.WARNING, logger="hf_reason"):
        _ids(model, tokenizer, [prompts[0] * 2, [5]])
    expected = limit is not None and limit[0] is not None
    assert ("1 of 2 outputs ran past the 40 positions" in caplog.text) == expected


def test_distractors_that_do_not_fit_are_refused_before_anything_is_generated(tokenizer, records):
    from hf_reason.data.synthetic.distractors import insert_distractor
    from hf_reason.text import encode_prompt

    record = records[0]
    size, noisy = (len(encode_prompt(row, tokenizer)) for row in (record, insert_distractor(record, 0)))
    model = tiny_model(tokenizer, "opt", max_position_embeddings=size + 4).eval()
    options = {"max_completion_length": 4, "progress": False}
    evaluate_model(model, tokenizer, [record], **options)
    model.generate = None
    with pytest.raises(ValueError, match=f"the longest prompt has {noisy} tokens and 4 new ones"):
        evaluate_model(model, tokenizer, [record], distractors=True, **options)


def test_tags_beyond_the_models_vocabulary(tokenizer):
    close = tokenizer.convert_tokens_to_ids("</think>")
    model = tiny_qwen2(tokenizer, vocab_size=close).eval()
    with pytest.raises(ValueError, match=f"the tags of the thought with the id {close}, but .* vocabulary of {close}"):
        generate_cot(model, tokenizer, QUESTION, **BUDGET)


def test_a_compiled_model_is_generated_with_like_its_own(tokenizer):
    model = _model(tokenizer)
    expected = generate_cot(model, tokenizer, QUESTION, **BUDGET)
    model.generation_config.update(**OWN["suppressed"])
    assert generate_cot(torch.compile(model), tokenizer, QUESTION, **BUDGET) == expected
    assert model.generation_config.suppress_tokens == OWN["suppressed"]["suppress_tokens"]
