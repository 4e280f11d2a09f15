"""generate_cot: the two budgets, what is forced and what is not, votes, batches, StepReasoner."""

import copy

import pytest
import torch
from chat_templates import R1_PREFILL_TEMPLATE
from tiny import tiny_qwen2, tiny_step_reasoner
from transformers import Qwen2ForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from hf_reason import evaluate_model, generate_cot
from hf_reason.generation.voting import count_votes
from hf_reason.text import build_prompt, encode, encode_prompt, end_token_id, render
from hf_reason.text.spans import prompt_token_ids

SHARP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
}
QUESTION = "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"


class Scripted(Qwen2ForCausalLM):
    """Writes, in row r of the batch, the r-th of its texts, whatever else has been forced before."""

    def play(self, tokenizer, prompt_length, *texts, scale=1e4):
        self.scripts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        self.prompt_length, self.calls, self.scale = prompt_length, 0, scale
        return self

    def forward(self, input_ids=None, **kwargs):
        self.calls += 1
        written = input_ids.shape[1] - self.prompt_length
        logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
        for row in range(len(input_ids)):
            script = self.scripts[row % len(self.scripts)]
            logits[row, -1, script[min(written, len(script) - 1)]] = self.scale
        return CausalLMOutputWithPast(logits=logits)


@pytest.fixture
def scripted(tiny_model, tokenizer):
    model = Scripted(tiny_model.config).eval()
    length = len(encode_prompt({"context": QUESTION}, tokenizer))
    return lambda *texts: model.play(tokenizer, length, *texts)


def _ask(model, tokenizer, prompts=QUESTION, **options):
    return generate_cot(model, tokenizer, prompts, generation_kwargs={"use_cache": False}, **options)


def _size(tokenizer, text) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _random_model(tokenizer, **sizes):
    """Sharp enough that its outputs differ; float64, so that padding changes no token."""
    return tiny_qwen2(tokenizer, **{**SHARP, **sizes}).double().eval()


def _step_reasoner(tokenizer):
    stacks = {"num_reasoner_layers": 2, "num_decoder_layers": 2, "plan_slots": 1}
    return tiny_step_reasoner(tokenizer, **SHARP, **stacks).double().eval()


MODELS = pytest.mark.parametrize("make", [_random_model, _step_reasoner], ids=["qwen2", "step_reasoner"])


def test_a_chain_that_the_model_writes_is_taken_apart(scripted, tokenizer, records):
    record = {**records[0], "context": QUESTION}
    text = render(record, tokenizer)["completion"]
    model = scripted(text + "<|end|>")
    (output,) = _ask(model, tokenizer, record)
    assert (output.steps, output.answer) == (record["steps"], record["answer"])
    assert output.thought == text.split("</think>")[0].removeprefix("<think>").strip()
    assert (output.closed_by, output.forced, output.ended) == ("model", False, True)
    whole = encode(record, tokenizer)
    labels = [label for label in whole["labels"] if label >= 0]
    close = tokenizer.convert_tokens_to_ids("</think>")
    assert output.thought_tokens == labels.index(close) + 1
    assert output.thought_tokens + output.answer_tokens == len(labels) - 1
    assert output.prompt == render(record, tokenizer)["prompt"]


def test_nothing_is_forced_where_the_budgets_suffice(scripted, tokenizer, records):
    """They do where one more line, as long as the longest, would still fit."""
    record = {**records[0], "context": QUESTION}
    thought, answer = render(record, tokenizer)["completion"].split("</think>")
    longest = max(_size(tokenizer, f"{line}\n") for line in thought.splitlines())
    needed = {
        "max_thought_tokens": _size(tokenizer, thought + "</think>") + longest,
        "max_answer_tokens": _size(tokenizer, answer) + 1,
    }
    model = scripted(f"{thought}</think>{answer}<|end|>")
    (output,) = _ask(model, tokenizer, record, **needed)
    assert (output.forced, output.ended, output.answer) == (False, True, record["answer"])
    (short,) = _ask(model, tokenizer, record, **{**needed, "max_answer_tokens": needed["max_answer_tokens"] - 2})
    assert (short.ended, short.answer_tokens) == (False, needed["max_answer_tokens"] - 2)
    assert record["answer"].startswith(short.answer) and short.answer != record["answer"]


@MODELS
def test_greedy_is_plain_generate_as_long_as_nothing_is_forced(make, tokenizer):
    """With a thought that the template opens; up to the budget, the random model's tokens are its own."""
    tokenizer.chat_template = R1_PREFILL_TEMPLATE
    model = make(tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    prompt = torch.tensor([encode_prompt({"context": QUESTION}, tokenizer)])
    plain = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=24,
        do_sample=False,
        suppress_tokens=[tokenizer.eos_token_id, end_token_id(tokenizer)],
    )[0, prompt.shape[1] :].tolist()
    (output,) = generate_cot(model, tokenizer, QUESTION, max_thought_tokens=24, max_answer_tokens=4)
    assert output.forced
    text = tokenizer.decode(plain, skip_special_tokens=False)
    assert text.startswith(output.thought) and len(output.thought) > 8


@pytest.mark.parametrize("budget", [5, 6, 17, 40])
def test_a_thought_without_lines_is_closed_at_its_budget_exactly(scripted, tokenizer, budget):
    (output,) = _ask(scripted("<think>\n" + "个" * 100), tokenizer, max_thought_tokens=budget, max_answer_tokens=3)
    assert (output.thought_tokens, output.closed_by) == (budget, "budget")
    assert (output.answer_tokens, output.ended) == (3, False)
    assert set(output.thought) == set(output.answer) == {"个"}


@pytest.mark.parametrize("room", range(0, 12))
def test_a_thought_of_lines_is_closed_between_them(scripted, tokenizer, room):
    """Whatever the budget, no step is cut, and one more as long as the longest would not have fitted."""
    steps = "".join(f"步骤{number}:{number}+1个\n" for number in range(1, 9))
    step = _size(tokenizer, "步骤1:1+1个\n")
    budget = 2 + 3 * step + 1 + room
    (output,) = _ask(scripted("<think>\n" + steps), tokenizer, max_thought_tokens=budget, max_answer_tokens=2)
    fit = (budget - 3) // step
    assert output.steps == [f"{number}+1个" for number in range(1, fit + 1)]
    assert output.closed_by == "budget"
    assert budget - step < output.thought_tokens <= budget


def test_a_tag_that_comes_by_itself_where_it_would_be_forced_is_the_models(scripted, tokenizer):
    text = "<think>\n步骤1:1+1=2\n步骤2:2+1=3\n</think>\n\n3<|end|>"
    budget = _size(tokenizer, text.split("</think>")[0]) + 1
    for spare in (0, 1, 3):  # so little is left at the second line's end that no third would fit
        (output,) = _ask(scripted(text), tokenizer, max_thought_tokens=budget + spare)
        assert (output.closed_by, output.answer) == ("model", "3")


def test_an_output_that_would_end_within_the_thought_gets_its_answer(scripted, tokenizer):
    stop = _size(tokenizer, "<think>\n步骤1:1+1=2")
    model = scripted("<think>\n步骤1:1+1=2<|end|>")
    (output,) = _ask(model, tokenizer, max_answer_tokens=3)
    assert (output.closed_by, output.steps) == ("stop", ["1+1=2"])
    assert output.thought_tokens == stop + 2  # the line break and the tag
    assert (output.answer, output.ended) == ("", True)


def test_sampling_never_draws_a_stop_token_in_the_thought(scripted, tokenizer):
    """Here it is nearly as likely as the likeliest token."""
    model = scripted("个")
    plain = model.forward

    def nearly(**inputs):
        output = plain(**inputs)
        output.logits[:, -1, tokenizer.eos_token_id] = model.scale * (1 - 1e-5)
        return output

    model.forward = nearly
    options = {"max_thought_tokens": 20, "max_answer_tokens": 20, "temperature": 1.0}
    (output,) = _ask(model, tokenizer, num_samples=8, **options)
    assert {chain.thought_tokens for chain in output.chains} == {20}
    assert {chain.closed_by for chain in output.chains} == {"budget"}
    assert all(chain.ended and chain.answer_tokens < 20 for chain in output.chains)


def test_a_thought_that_nobody_opened_is_opened(scripted, tokenizer):
    """A model that answers at once is made to think; the prompt stays the one builder's."""
    (output,) = _ask(scripted("个"), tokenizer, max_thought_tokens=9, max_answer_tokens=2)
    assert output.prompt == build_prompt({"context": QUESTION}, tokenizer)
    assert (output.thought, output.thought_tokens) == ("个" * 5, 9)


@MODELS
def test_a_batch_is_its_rows_one_by_one(make, tokenizer, records):
    model = make(tokenizer)
    options = {"max_thought_tokens": 20, "max_answer_tokens": 6}
    together = generate_cot(model, tokenizer, records[:5], batch_size=5, **options)
    alone = [generate_cot(model, tokenizer, record, **options)[0] for record in records[:5]]
    assert together == alone
    assert len({output.thought for output in together}) > 1
    assert [output.prompt for output in together] == [build_prompt(record, tokenizer) for record in records[:5]]


@MODELS
def test_both_stages_are_one_sequence(make, tokenizer):
    """With the cache the tokens are those of reading the whole text again for each of them."""
    model = make(tokenizer)
    prefills = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: prefills.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    (output,) = generate_cot(model, tokenizer, QUESTION, max_thought_tokens=24, max_answer_tokens=8)
    hook.remove()
    assert prefills[0] == len(prompt_token_ids(output.prompt, tokenizer))
    assert set(prefills[1:]) == {1}
    assert output == _ask(model, tokenizer, max_thought_tokens=24, max_answer_tokens=8)[0]


def test_rows_that_close_early_do_not_wait_for_the_others(scripted, tokenizer):
    """As many forwards as the longest row has tokens, not the longest thought and the longest answer together."""
    quick = "<think>\n步骤1:1\n</think>\n\n" + "答" * 20 + "<|end|>"
    slow = "<think>\n步骤1:" + "1" * 30 + "\n</think>\n\n7<|end|>"
    model = scripted(quick, slow)
    first, second = _ask(model, tokenizer, [QUESTION, QUESTION])
    longest = max(_size(tokenizer, quick), _size(tokenizer, slow))
    assert model.calls == longest < first.answer_tokens + second.thought_tokens
    assert (first.answer, second.answer) == ("答" * 20, "7")


def test_votes_are_counted_by_what_the_answers_say(scripted, tokenizer):
    chains = [
        f"<think>\n步骤1:{i}\n</think>\n\n{answer}<|end|>" for i, answer in enumerate(["7", "29", "29.0", "8", ""])
    ]
    (output,) = _ask(scripted(*chains), tokenizer, num_samples=5, vote=True, temperature=1.0)
    assert [(vote.answer, vote.count, vote.ratio) for vote in output.votes] == [
        ("29", 2, 0.4),
        ("7", 1, 0.2),
        ("8", 1, 0.2),
    ]
    assert (output.answer, output.steps) == ("29", ["1"])
    assert [chain.steps for chain in output.chains] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    assert output.votes[0].chains == (1, 2)


def test_of_equally_many_votes_the_first_answer_wins(scripted, tokenizer):
    chains = [f"<think>\n步骤1:1\n</think>\n\n{answer}<|end|>" for answer in ("8", "7", "7", "8")]
    (output,) = _ask(scripted(*chains), tokenizer, num_samples=4, vote=True, temperature=1.0)
    assert [vote.answer for vote in output.votes] == ["8", "7"] and output.answer == "8"
    (nothing,) = _ask(
        scripted("<think>\n步骤1:1\n</think>\n\n<|end|>"), tokenizer, num_samples=2, vote=True, temperature=1.0
    )
    assert (nothing.answer, nothing.votes, len(nothing.chains)) == ("", [], 2)


def test_without_a_vote_all_chains_are_returned(scripted, tokenizer):
    chains = [f"<think>\n步骤1:{i}\n</think>\n\n{answer}<|end|>" for i, answer in enumerate(["7", "29", "29"])]
    (output,) = _ask(scripted(*chains), tokenizer, num_samples=3, temperature=1.0)
    assert [chain.answer for chain in output.chains] == ["7", "29", "29"]
    assert (output.answer, output.votes) == ("7", []), "the first chain; nobody voted"


def test_names_of_earlier_versions_are_refused_with_the_new_ones(tiny_model, tokenizer):
    with pytest.raises(
        TypeError, match="'num_votes', which is called 'num_samples, with vote=True' since version 0.2"
    ):
        generate_cot(tiny_model, tokenizer, QUESTION, num_votes=3)
    (vote,) = count_votes(["7"])
    with pytest.raises(AttributeError, match="'share': it is called 'ratio' since version 0.2"):
        vote.share  # noqa: B018


@MODELS
def test_sampling_is_repeated_by_its_seed(make, tokenizer):
    model = make(tokenizer)
    options = {"max_thought_tokens": 16, "max_answer_tokens": 4, "num_samples": 3, "temperature": 1.5}
    state = torch.get_rng_state()
    one, again, other = (generate_cot(model, tokenizer, QUESTION, seed=seed, **options) for seed in (1, 1, 2))
    assert one == again != other
    assert len({chain.thought for chain in one[0].chains}) == 3
    assert torch.equal(state, torch.get_rng_state())


def test_domain_instructions_are_in_the_prompt(scripted, tokenizer):
    record = {"context": QUESTION, "domain": "math"}
    (output,) = generate_cot(
        _random_model(tokenizer),
        tokenizer,
        record,
        max_thought_tokens=6,
        max_answer_tokens=1,
        instructions={"math": "作为数学老师,"},
    )
    assert "作为数学老师,小明" in output.prompt


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([QUESTION, "  "], {}, r"prompts\[1\] is empty"),
        ([QUESTION, {"question": "?"}], {}, r"prompts\[1\] is neither a question nor a record"),
        (QUESTION, {"max_thought_tokens": 0}, "max_thought_tokens is 0; it must be at least 5"),
        (QUESTION, {"max_answer_tokens": 0}, "max_answer_tokens is 0; it must be at least 1"),
        (QUESTION, {"num_samples": 0}, "num_samples is 0"),
        (QUESTION, {"num_samples": 3, "temperature": 0.0}, "num_samples=3 without sampling gives 3 equal chains"),
        (QUESTION, {"num_samples": 3, "generation_kwargs": {"do_sample": False}}, "without sampling"),
        (QUESTION, {"vote": True}, "vote=True needs several samples, and num_samples is 1"),
        (QUESTION, {"generation_kwargs": {"num_beams": 2}}, "Leave num_beams out"),
    ],
)
def test_what_cannot_be_generated_is_refused(tiny_model, tokenizer, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate_cot(tiny_model, tokenizer, prompts, **options)


def test_templates_and_vocabularies_that_do_not_fit(tiny_model, tokenizer):
    closing = copy.deepcopy(tokenizer)
    closing.chat_template = R1_PREFILL_TEMPLATE.replace("<think>\n", "<think>\n\n</think>\n\n")
    with pytest.raises(ValueError, match="closes the thought in its generation prompt"):
        generate_cot(tiny_model, closing, QUESTION)
    from hf_reason.generation.budgets import Frame

    class Unknown:
        decode = staticmethod(lambda ids, **kwargs: "<unk>")

        def __call__(self, text, **kwargs):
            return {"input_ids": [0]}

    with pytest.raises(ValueError, match="cannot write </think>"):
        Frame.of(Unknown(), "", [1])


def test_no_prompts_no_outputs(tiny_model, tokenizer):
    assert generate_cot(tiny_model, tokenizer, []) == []


def test_evaluation_with_a_budget_is_generate_cot(tokenizer, records):
    """And its close-rate does not count what was closed by force."""
    model = _random_model(tokenizer)
    options = {"max_completion_length": 26, "progress": False, "return_predictions": True}
    results = evaluate_model(model, tokenizer, records[:4], max_thought_tokens=20, **options)
    outputs = generate_cot(model, tokenizer, records[:4], max_thought_tokens=20, max_answer_tokens=6)
    assert [(row["steps"], row["answer"]) for row in results["predictions"]] == [(o.steps, o.answer) for o in outputs]
    assert [row["thought_tokens"] for row in results["predictions"]] == [o.thought_tokens for o in outputs]
    assert all(output.forced for output in outputs) and results["close_rate"] == 0
    assert results["generation"]["max_thought_tokens"] == 20
    with pytest.raises(ValueError, match="raise max_completion_length, or leave max_thought_tokens out"):
        evaluate_model(model, tokenizer, records[:4], max_thought_tokens=26, **options)
