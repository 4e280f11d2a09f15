"""Tags of thoughts and answers: the structural ones are read, whatever they are called; others are text."""

import pytest
from cpu_time import ends_within
from trace_files import one

from hf_reason.data.read.other_tags import TagTranslator, unknown_tag
from hf_reason.data.read.rows import SourceError
from hf_reason.data.read.stray_tags import has_stray_tag
from hf_reason.data.read.think_tags import join_thought, split_thought, without_prefill


def parts_of(message: str) -> tuple[str, str, bool]:
    parts = split_thought(message)
    return parts.thought, parts.answer, parts.closed


# Tags that a text only mentions

SPOKEN = [
    "写在 <think> 和 </think> 之间",
    "放在<think>与</think>之间。首先列式。",
    "把推理放在<think>…</think>标签里",
    "`<think>` 表示思考开始，`</think>` 表示结束",
    "请看“<think>推理</think>”这种写法",
    "def f():\n    return '<think>'",
    "格式如下：\n```\n<think>\n推理\n</think>\n答案\n```",
    "Put it between <think> and </think>, please.",
    "The model writes </think> before it answers.",
    "1. <think> 标签：推理开始\n2. </think> 标签：推理结束",
    "$\\text{<think>}$ 是一个标记",
    "**<think>** opens the thought.",
    "Sure. <think> is a tag.",
    "用 <answer> 和 </answer> 包住答案",
    "return '<answer>'",
    "Use this template:\n\n<think>\n...\n</think>\n<answer>...</answer>",
    "模板如下：\n\n    <think>推理过程</think>\n    <answer>你的答案</answer>",
    "> <think>\n> 推理\n> </think>\n> 答案",
]


@pytest.mark.parametrize("text", SPOKEN)
def test_mentioned_tags_are_text_in_messages_and_columns(text):
    assert parts_of(text) == ("", text, True)
    assert parts_of(f"<think>推理</think>{text}") == ("推理", text, True)
    assert parts_of(f"<think>\n推理\n</think>\n\n{text}") == ("推理", text, True)
    assert join_thought("推理", text).answer == text
    assert join_thought(text, "好").thought == text
    assert not has_stray_tag(text)


@pytest.mark.parametrize("text", [text for text in SPOKEN if "<answer>" not in text and "Sure" not in text])
def test_a_thought_that_mentions_tags_ends_at_its_own(text):
    for opening in ("<think>\n", ""):
        assert parts_of(f"{opening}先想想。\n{text}\n所以是7。\n</think>\n\n7") == (
            f"先想想。\n{text}\n所以是7。",
            "7",
            True,
        )


@pytest.mark.parametrize(
    ("message", "thought", "answer"),
    [
        ("<think>推理</think>def f():\n    return '<answer>'", "推理", "def f():\n    return '<answer>'"),
        (
            "<think>The user asks what </think> means. So.</think>\n\nThe end.",
            "The user asks what </think> means. So.",
            "The end.",
        ),
        ("<think>要写在</think>后面。所以是7。</think>7", "要写在</think>后面。所以是7。", "7"),
        ("<think>推理</think>答案写在</think>之后", "推理", "答案写在</think>之后"),
        ("<think>想好了</think>中国的首都是北京", "想好了", "中国的首都是北京"),
        ("想好了</think>标签是A", "想好了", "标签是A"),
        # a listing that the thought leaves open hides no tag
        (
            "<think>t\n```python\nx=1\n</think>\n答\n```python\ny=2\n```",
            "t\n```python\nx=1",
            "答\n```python\ny=2\n```",
        ),
        ("t\n```python\nx=1\n</think>\n答\n```python\ny=2\n```", "t\n```python\nx=1", "答\n```python\ny=2\n```"),
        ("<think>t</think>答案是7。\n</think>", "t", "答案是7。"),
        ("<think>先查\n</think>\nlook(a)\n<think>再算\n</think>\n答", "先查\n\n再算", "look(a)\n\n答"),
        ("<think>先\n<think>\n例\n</think>\n然后\n</think>\n答", "先\n\n例\n\n然后", "答"),
        ("<think>t</think>\n    x = 1\n    return x\n", "t", "    x = 1\n    return x"),
        ("<think>t</think>\n<p>&lt;think&gt;</p>", "t", "<p>&lt;think&gt;</p>"),
        ("<think>t</think>\n<answer>a</answer>\n<answer>b</answer>", "t", "b"),
        ("助手：<think>t</think>a", "t", "助手：\n\na"),
        ("<think>t</think>放在<answer>标签中：<answer>7</answer>", "t", "7"),
        ("<think>t</think>The <answer> tag holds it.\n<answer>7</answer>", "t", "7"),
        ("<think>t</think>See <response>x</response> here.", "t", "See <response>x</response> here."),
    ],
)
def test_which_tags_are_structure(message, thought, answer):
    assert parts_of(message) == (thought, answer, True)


def test_thoughts_that_never_end():
    assert parts_of("<think>t 写在 <think> 里") == ("t 写在 <think> 里", "", False)
    assert parts_of("好\n<think>t") == ("t", "好", False)
    assert parts_of("<think>t\n```\n<think>\n例\n</think>\n```\n还没") == (
        "t\n```\n<think>\n例\n</think>\n```\n还没",
        "",
        False,
    )


@pytest.mark.parametrize(
    ("thought", "content", "expected"),
    [
        ("推理", "Let me know!\n</think>", ("推理", "Let me know!")),
        ("推理", "leaked.\n</thread>\n</think>\n\nSorry.", ("推理", "Sorry.")),
        ("<think>t</think>\n\na", "a", ("t", "a")),
        ("<think>t</think>\n\nu", "a", ("t\n\nu", "a")),
        ("t\n</think>\n\na", "a", ("t", "a")),
        ("写在<think>与</think>", "a", ("写在<think>与</think>", "a")),
        ("3+4=7", "7\n</think>", ("3+4=7", "7")),
        ("t", "<answer>a</answer>", ("t", "a")),
        ("t", "<answer>x</answer> marks it", ("t", "<answer>x</answer> marks it")),
        ("[THINK]t[/THINK]", "a", ("t", "a")),
        ("t", "<think>t</think><think>u</think>a", ("t", "a")),
        ("t", "    return x\n    y", ("t", "    return x\n    y")),
    ],
)
def test_columns_lose_only_what_encloses_them(thought, content, expected):
    parts = join_thought(thought, content)
    assert (parts.thought, parts.answer, parts.closed) == (*expected, True)


# Other tags


@pytest.mark.parametrize(
    "pair",
    [
        *(
            "<reasoning>|</reasoning>",
            "[THINK]|[/THINK]",
            "<THINK>|</THINK>",
            "<Think>|</Think>",
            "<thought>|</thought>",
        ),
        *("<thoughts>|</thoughts>", "<thinking>|</thinking>", "<Thought>|</Thought>", "<seed:think>|</seed:think>"),
        *("<longcat_think>|</longcat_think>", "<think_fast>|</think_fast>", '<think time="3">|</think>'),
        *("<reasoning_engine>|</reasoning_engine>", "<|begin_of_thought|>|<|end_of_thought|>", "◁think▷|◁/think▷"),
        *("<|START_THINKING|>|<|END_THINKING|>", "<unused94>thought\n|<unused95>", "[unused16]|[unused17]"),
        *("<|channel>thought\n|<channel|>", "<思考>|</思考>", "<思考過程>|</思考過程>", "【思考】|【/思考】"),
        *("<start_working_out>|<end_working_out>", "&lt;think&gt;|&lt;/think&gt;", "<scratchpad>|</scratchpad>"),
        *("＜think＞|＜/think＞", "＜think＞|＜／think＞", "< think >|</ think >", "<think >|</think >"),
        *("<cot>|</cot>", "<rationale>|</rationale>", "<think>|</thinking>"),
    ],
)
def test_known_tags(pair):
    # Two tags that contain "|" have one more of it in the middle.
    middle = pair.index("|", 1) if not pair.startswith("<|") else pair.index(">") + 1
    middle = pair.index("|<channel|>") if pair.startswith("<|channel") else middle
    opening, closing = pair[:middle], pair[middle + 1 :]
    assert parts_of(f"{opening}先算3+4=7。{closing}答案是7。") == ("先算3+4=7。", "答案是7。", True)
    assert parts_of(f"{opening}\n先算3+4=7。\n{closing}\n\n答案是7。") == ("先算3+4=7。", "答案是7。", True)
    if "&" not in pair:
        assert parts_of(f"先算3+4=7。\n{closing}\n\n答案是7。") == ("先算3+4=7。", "答案是7。", True)
        assert parts_of(f"{opening}先算3+4=7。") == ("先算3+4=7。", "", False)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "<answer>a</answer>",
            "<Output>a</Output>",
            "<output>a</output>",
            "<final>a</final>",
            "<response>a</response>",
        ),
        *(
            "<|begin_of_solution|>a<|end_of_solution|>",
            "<|START_RESPONSE|>a<|END_RESPONSE|>",
            "<SOLUTION>a</SOLUTION>",
        ),
        *("<答案>a</答案>", "<final_answer>\na\n</final_answer>"),
    ],
)
def test_tags_of_answers(answer):
    assert parts_of(f"<think>t</think>\n\n{answer}") == ("t", "a", True)
    assert join_thought("t", answer).answer == "a"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>",
            ("t", "a", True),
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>t<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.look <|constrain|>json<|message|>{"city":"北京","day":null}<|call|>',
            ("t", 'look({"city": "北京", "day": null})', True),
        ),
        ("<|channel|>analysis<|message|>t is cut", ("t is cut", "", False)),
        (
            "<|open|>think<|sep|>t<|close|>think<|sep|><|open|>response<|sep|>a<|close|>response<|sep|>",
            ("t", "a", True),
        ),
        ("t<|close|>think<|open|>response<|sep|>a<|close|>response<|sep|><|close|>message<|sep|>", ("t", "a", True)),
        ("analysis我们先看题。assistantfinal答案是7。", ("我们先看题。", "答案是7。", True)),
        ("analysis of the assistantfinal", ("", "analysis of the assistantfinal", True)),
        ("Here is my thought process:\nt\n\nHere is my response:\na", ("t", "a", True)),
        (
            '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds</summary>\n> t\n> u\n'
            "</details>\na",
            ("t\nu", "a", True),
        ),
        ("&lt;think&gt;t&lt;/think&gt;a &lt; b", ("t", "a < b", True)),
    ],
)
def test_forms_without_a_pair_of_tags(message, expected):
    assert parts_of(message) == expected


@pytest.mark.parametrize("tag", ["[THINK]", "<reasoning>", "◁think▷", "<think>"])
def test_a_prefilled_prompt_loses_the_tag_and_a_mention_stays(tag):
    assert without_prefill(f"3+4=?\n{tag}\n") == "3+4=?\n"
    assert without_prefill(f"What does `{tag}`") == f"What does `{tag}`"
    assert without_prefill(f"What is meant by {tag}") == f"What is meant by {tag}"
    assert without_prefill(f"推理放在{tag}") == f"推理放在{tag}"
    assert without_prefill(f"3+4=?{tag}") == without_prefill("3+4=?") == "3+4=?"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("<plan>t</plan>a", "plan"),
        ("<analysis>\nt\n</analysis>\n\na", "analysis"),
        ("<深思>t</深思>a", "深思"),
        ("[PLAN]t[/PLAN]a", "[PLAN],[/PLAN]"),
        ("<|begin_of_plan|>t<|end_of_plan|>a", "<|begin_of_plan|>,<|end_of_plan|>"),
        ("【推想】t【/推想】a", "【推想】,【/推想】"),
        ("<div>t</div>a", None),
        ("<plan>t</plan>", None),
        ("<plan>t", None),
        ("见 <plan>t</plan>a", None),
        ("《三国》是小说", None),
    ],
)
def test_unknown_tags_have_a_name_that_reads_them(tmp_path, answer, name):
    assert unknown_tag(answer) == name
    if name is not None:
        trace = one(tmp_path, {"question": "q", "answer": answer}, thought_tags=[name])
        assert (trace.thought, trace.answer) == ("t", "a")


def test_tags_that_a_user_names_are_read_in_every_layout(tmp_path):
    for row in (
        {"instruction": "Use <plan>..</plan>.", "input": "", "output": "<plan>t</plan>a"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<plan>t</plan>a"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "t\n</plan>\n\na"}]},
        {"prompt": "q", "completion": [{"role": "assistant", "content": "<PLAN>t</PLAN>a"}]},
    ):
        trace = one(tmp_path, row, thought_tags=["plan"])
        assert (trace.thought, trace.answer) == ("t", "a")
        assert "think" not in trace.context
    assert TagTranslator(["plan"])("Format:\n<plan>\n..\n</plan>") == "Format:\n<plan>\n..\n</plan>"


@pytest.mark.parametrize("name", ["", "<plan>", "a b", "x,", ",x", "x,x", "a,b,c"])
def test_a_name_that_is_no_tag_is_refused(name):
    with pytest.raises(SourceError, match="thought_tags"):
        TagTranslator([name])


@pytest.mark.parametrize(
    "text", ["所以</think>答案", "<think>\n推理\n</think>", "答案</answer>", "[THINK]好", "t</THINK>"]
)
def test_stray_tags(text):
    assert has_stray_tag(text)


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 3000,
        "</think>\n" * 3000,
        "<think>a</think>\n" * 3000,
        "<answer>" * 5000,
        "```\n" * 5001 + "<think>x",
    ],
)
def test_many_tags_cost_linear_time(text):
    assert ends_within(2, lambda: split_thought(text))


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        *(
            ("<think_start>", "<think_end>"),
            ("<|thinking_start|>", "<|thinking_end|>"),
            ("<|cot_start|>", "<|cot_end|>"),
        ),
        *(("<begin_of_thought>", "<end_of_thought>"), ("<|begin_of_reasoning|>", "<|end_of_reasoning|>")),
        *(("<|think|>", "<|/think|>"), ("<|REASONING|>", "<|/REASONING|>")),
    ],
)
def test_tags_that_say_where_they_start_and_end(opening, closing):
    found = split_thought(f"{opening}\n推理\n{closing}\n\n7")
    assert (found.thought, found.answer, found.closed) == ("推理", "7", True)
