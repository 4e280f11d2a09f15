"""The parts of the API on their own: text of tokens, budgets, names of models, time limits, failures."""

import asyncio

import pytest

from hf_reason.cli.inputs.names import named
from hf_reason.cli.inputs.serving import _adapter
from hf_reason.serving.cache import open_cache
from hf_reason.serving.chains import Chains
from hf_reason.serving.controls import Wish, budget_of, read_wish
from hf_reason.serving.engines.base import Accepted, Budget, EngineError, Job, ModelCard, Piece, Prompt
from hf_reason.serving.engines.texts import overlap
from hf_reason.serving.engines.writer import Decoder
from hf_reason.serving.errors import ApiError
from hf_reason.serving.revision import revision_of
from hf_reason.text.conversation import build_conversation


@pytest.mark.parametrize("text", ["步骤1:增加后:12+25=37个\n", "a😀b 龘 é", "\n\n29个", "x" * 90 + "苹果" * 40])
def test_a_decoder_gives_the_text_and_never_half_a_character(tokenizer, text):
    decoder, pieces = Decoder(tokenizer), []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        pieces.append(decoder.push(token))
    assert "".join(pieces) + decoder.rest() == text and not any("\ufffd" in piece for piece in pieces)


def test_overlap_is_what_may_become_the_stop_text():
    assert [overlap(text, "abab") for text in ("xaba", "xab", "x", "aab", "abab")] == [3, 2, 0, 2, 2]


LIMITS = {"max_thought_tokens": 100, "max_answer_tokens": 50}


@pytest.mark.parametrize(
    ("wish", "total", "budget"),
    [
        (Wish(), None, Budget(100, 50)),
        (Wish(tokens=30), None, Budget(30, 50)),
        (Wish(tokens=3000), None, Budget(100, 50)),
        (Wish(effort="medium"), None, Budget(50, 50)),
        (Wish(effort="minimal"), None, Budget(12, 50)),
        (Wish(enabled=False), None, Budget(0, 50)),
        (Wish(), 80, Budget(60, 50, 80)),  # a quarter is kept
        (Wish(), 20, Budget(12, 50, 20)),  # 8 are kept
        (Wish(), 12, Budget(0, 12)),
        (Wish(tokens=30), 80, Budget(30, 50, 80)),
    ],
)
def test_budgets(wish, total, budget):
    assert budget_of(wish, total, **LIMITS) == budget


def test_a_budget_says_all_its_names_agree():
    wish = read_wish(
        {"thinking_budget": 20, "reasoning": {"max_tokens": 20, "effort": "low"}, "enable_thinking": True}
    )
    assert (wish.tokens, wish.effort, wish.enabled) == (20, "low", True)
    assert read_wish({"thinking_budget": -1}) == Wish()
    with pytest.raises(ApiError, match="contradict each other: thinking_budget and reasoning_effort"):
        read_wish({"thinking_budget": 20, "reasoning_effort": "none"})


def test_names_of_models_and_adapters(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert named("mine=out/x") == ("mine", "out/x") and named("out/x/") == ("x", "out/x/")
    assert named(str(tmp_path / "a=b")) == ("a=b", str(tmp_path / "a=b"))
    assert _adapter("finance=out/f", ["m"]) == ("m", "finance", "out/f")
    assert _adapter("n:finance=out/f", ["m", "n"]) == ("n", "finance", "out/f")
    for wrong in ("finance=out/f", "x:finance=out/f"):
        with pytest.raises(ValueError, match="which adapter of which model"):
            _adapter(wrong, ["m", "n"])


def test_a_revision_changes_with_the_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoint-1").mkdir()
    before = revision_of(str(tmp_path))
    (tmp_path / "checkpoint-1" / "x").write_text("1")
    assert revision_of(str(tmp_path)) == before
    (tmp_path / "config.json").write_text("[]")
    assert revision_of(str(tmp_path)) != before


def test_a_conversation_reads_the_answers_of_earlier_turns(tokenizer):
    turns = [
        {"role": "user", "content": "1+1=?"},
        {"role": "assistant", "content": "<think>\n步骤1:一加一\n</think>\n\n2"},
        {"role": "user", "content": "再加一?"},
    ]
    text = build_conversation(turns, tokenizer)
    assert "1+1=?" in text and "再加一?" in text and "一加一" not in text
    assert build_conversation(turns, tokenizer, thinking=False).endswith("</think>\n\n")
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        build_conversation(turns, tokenizer)


class _Engine:
    def __init__(self, error=None):
        self.error, self.closed = error, False

    async def stream(self, accepted):
        try:
            yield Piece(thought="a")
            if self.error is not None:
                raise self.error
            await asyncio.sleep(60)
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(None, 504, "timeout"), (EngineError("x"), 500, "engine_error"), (KeyError("x"), 500, "engine_error")],
)
def test_a_slow_or_broken_engine_is_an_error_and_is_let_go(error, status, code):
    engine = _Engine(error)
    job = Job("m", Prompt(({"role": "user", "content": "?"},)), Budget(1, 1))
    accepted = Accepted(job, ModelCard("m", 0), (1,), {}, False)

    async def run():
        with pytest.raises(ApiError) as caught:
            async for _ in Chains(engine, open_cache(None), lambda result: None).run([accepted], None, 0.2):
                pass
        await asyncio.sleep(0.05)
        return caught.value

    found = asyncio.run(run())
    assert (found.status, found.code) == (status, code) and engine.closed
