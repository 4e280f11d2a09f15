"""Sources: every layout gives the same trace, and errors say where and what to do."""

import csv
import json

import pytest
from trace_files import one, write_jsonl

from hf_reason.data.read.layouts import ADAPTERS
from hf_reason.data.read.sources import SourceError, detect, read_records, read_traces, trace_to_record

Q, T, A = "小明有3个苹果，又买4个，一共几个？", "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。", "一共7个。"
TAGGED = f"<think>\n{T}\n</think>\n\n{A}"
SOLUTION_TAGS = (
    f"<|begin_of_thought|>\n\n{T}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{A}\n\n<|end_of_solution|>"
)
MARCO = f"<Thought>\n{T}\n</Thought>\n<Output>\n{A}\n</Output>"
ASK = {"role": "user", "content": Q}

LAYOUTS = {
    "congliu_r1": {"input": Q, "reasoning_content": T, "content": A, "repo_name": "gavinluo/applied_math", "score": 9},
    "instruction_input_output": {"instruction": Q, "input": "", "output": TAGGED, "repo_name": "a/b", "score": 9},
    "openr1_math": {
        "problem": Q,
        "solution": "略",
        "answer": "7",
        "problem_type": "Algebra",
        "is_reasoning_complete": [True],
        "generations": [TAGGED],
        "correctness_math_verify": [True],
        "messages": [ASK, {"role": "assistant", "content": TAGGED}],
    },
    "openthoughts": {
        "system": "Your role as an assistant involves thoroughly exploring questions through a long process.",
        "conversations": [{"from": "user", "value": Q}, {"from": "assistant", "value": SOLUTION_TAGS}],
    },
    "openthoughts_metadata": {
        "problem": Q,
        "deepseek_reasoning": T,
        "deepseek_solution": A,
        "ground_truth_solution": "So \\boxed{7}.",
        "domain": "math",
    },
    "medical_o1": {"Question": Q, "Complex_CoT": T, "Response": A},
    "medical_r1_distill": {"question": Q, "reasoning (reasoning_content)": T, "response (content)": A},
    "magpie_r1": {
        "instruction": Q,
        "response": TAGGED,
        "conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": TAGGED}],
    },
    "r1_distill_sft": {
        "problem": Q,
        "reannotated_assistant_content": TAGGED,
        "solution": "7",
        "messages": [ASK],
        "verified": True,
    },
    "messages": {
        "messages": [
            ASK,
            {
                "role": "assistant",
                "content": f"<think>{T}</think> <answer>{A}</answer>",
                "info": {"think_content": T, "answer_content": A, "reference_answer": "7"},
            },
        ]
    },
    "general_thought": {"question": Q, "model_reasoning": T, "model_answer": A, "reference_answer": "7", "task": "x"},
    "s1k": {
        "question": Q,
        "deepseek_thinking_trajectory": T,
        "deepseek_attempt": A,
        "solution": "7",
        "cot_type": "math",
    },
    "long_form_thought": {"question": Q, "combined_text": SOLUTION_TAGS, "domain": "math"},
    "petro_r1": {"id": 1, "question": Q, "thought_process": T, "answer": A},
    "conversations": {
        "conversations": [
            {"role": "user", "content": Q, "reasoning_content": "", "tools": "", "tool_calls": ""},
            {"role": "assistant", "content": A, "reasoning_content": T, "tools": "", "tool_calls": ""},
        ]
    },
    "instruction_response": {"instruction": Q, "response": MARCO},
    "instruction_output": {"instruction": Q, "output": TAGGED},
    "input_output": {"input": Q, "output": TAGGED},
    "prompt_completion": {"prompt": [ASK], "completion": [{"role": "assistant", "content": TAGGED}]},
    "question_reasoning_answer": {"question": Q, "reasoning": T, "answer": A, "category": ["math"]},
    "context_reasoning_answer": {"context": Q, "task": "", "reasoning": T, "answer": A},
}


# Layouts


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_published_layout_is_told_by_its_columns_and_gives_the_same_trace(tmp_path, name):
    assert detect(LAYOUTS[name]).name == name
    trace = one(tmp_path, LAYOUTS[name])
    assert (trace.context, trace.thought, trace.answer, trace.closed) == (Q, T, A, True)
    assert trace.source == "one.jsonl#1"
    assert one(tmp_path, LAYOUTS[name], schema=name) == trace
    assert one(tmp_path, {"layout": name, "row": LAYOUTS[name], "expect": {}}) == trace
    assert trace_to_record(trace)["steps"] == ["首先，原有3个。", "然后，3+4=7。", "所以是7个。"]


def test_every_adapter_is_tried_here():
    elsewhere = {"record", "article", "word_problem", "question_solution_answer", "question_steps_answer"}
    elsewhere |= {"question_answer"}
    assert set(ADAPTERS) == set(LAYOUTS) | elsewhere


@pytest.mark.parametrize(
    ("name", "reference"),
    [("openr1_math", "7"), ("openthoughts_metadata", "7"), ("r1_distill_sft", "7"), ("messages", "7")]
    + [("general_thought", "7"), ("s1k", "7"), ("congliu_r1", None), ("question_reasoning_answer", None)],
)
def test_references(tmp_path, name, reference):
    assert one(tmp_path, LAYOUTS[name]).reference == reference


def test_a_whole_solution_is_no_reference(tmp_path):
    assert one(tmp_path, {**LAYOUTS["s1k"], "solution": "We see that it is so.\n" * 9}).reference is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("congliu_r1", "gavinluo/applied_math"), ("medical_o1", "medical"), ("openr1_math", "math")]
    + [("question_reasoning_answer", "math"), ("petro_r1", None)],
)
def test_domain_hints(tmp_path, name, hint):
    assert one(tmp_path, LAYOUTS[name]).domain == hint


def test_own_records_and_the_articles_layout(tmp_path):
    record = next(read_records(write_jsonl(tmp_path / "a.jsonl", [LAYOUTS["congliu_r1"]])))
    again = next(read_records(write_jsonl(tmp_path / "b.jsonl", [record])))
    assert {**again, "source": record["source"]} == record
    article = {"context": Q, "steps": ["步骤1：3+4=7", "步骤2：答案是7"], "task_desc": "推理", "domain": "math"}
    trace = one(tmp_path, article)
    assert (trace.task, trace.answer, trace.domain) == ("推理", "步骤2：答案是7", "math")
    assert trace_to_record(trace)["steps"] == ["3+4=7", "答案是7"]
    assert one(tmp_path, {**article, "answer": A}).answer == A


def test_word_problems(tmp_path):
    row = {"question": Q, "answer": "7个", "answer_num": "7", "equation": "x=(3+4)*2/2", "steps": 2}
    trace = one(tmp_path, row)
    assert len(trace.steps) == 3 and trace.steps[0] == "3+4=7"
    assert (trace.answer, trace.reference, trace.thought, trace.domain) == ("7", "7个", None, "math")
    # An equation that does not fit the answer shows: the answer is what the chain comes to.
    assert one(tmp_path, {**row, "equation": "x=3+5"}).answer == "8"
    # The answer is what the last step comes to, in the source's own writing.
    for equation, number, written, answer in (
        ("x=1-(1/5)-(1/4)", "11/20", "(11/20)", "11/20"),
        ("x=(2/5)*4", "8/5", "((8)/(5))", "8/5"),
        ("x=15/(15+1)", "15/16", "93.75%", "93.75%"),
        ("x=(7/4)*2", "7/2", "3.5", "3.5"),
        ("x=7", "7", "7个", "7"),
    ):
        trace = one(tmp_path, {**row, "equation": equation, "answer_num": number, "answer": written})
        assert trace.answer == answer
        assert not trace.steps or trace.steps[-1].endswith("=" + answer)
    for equation in ("x + y = 7 ; x - y = 1", "2*x=14-x", "?"):
        unusable = one(tmp_path, {**row, "equation": equation})
        assert (unusable.steps, unusable.thought, unusable.answer) == (None, "", "7")
    assert one(tmp_path, {**row, "answer": [5, 2], "answer_num": None, "equation": "x+y=7"}).answer == "5, 2"


def test_human_solutions_are_lines(tmp_path):
    row = {"question": Q, "solution": "3+4 = 7\nThe answer is 7", "answer": "7", "answer_num": "7", "steps": 2}
    trace = one(tmp_path, row)
    assert (trace.steps, trace.answer, trace.reference) == (["3+4 = 7", "The answer is 7"], "7", "7")
    formal = one(tmp_path, {**row, "solution": "We have\n\\[\nx = 7\n\\]\nso 7."})
    assert formal.steps is None and formal.thought.startswith("We have")


def test_question_and_answer_alone(tmp_path):
    row = {"question": Q, "answer": "7", "answer_num": "7", "steps": 2, "grade": 1}
    trace = one(tmp_path, row)
    assert (trace.thought, trace.steps, trace.answer, trace.reference) == ("", None, "7", "7")
    assert trace_to_record(trace)["steps"] == []
    gsm8k = one(tmp_path, {"question": Q, "answer": "3+4=<<3+4=7>>7\nSo 7\n#### 7"})
    assert (gsm8k.steps, gsm8k.answer) == (["3+4=7", "So 7"], "7")
    assert one(tmp_path, {"question": Q, "answer": TAGGED}).thought == T


@pytest.mark.parametrize(
    "answer",
    [
        "#### 一、打基础\n多看书。\n\n#### 二、多练习",
        "#### 一、打基础\n多看书。\n\n#### 二、多练习\n每天写。",
        "先看书。\n\n#### 一、打基础\n\n再练习。",
        "## 方法\n先看书。\n#### 总结",
        "先看书。\n#### 一、总结",
        "Read first.\n#### 2. Practice",
        "Read first.\n#### Summary:",
        "#### 7",
        "先看书。\n##### 7",
    ],
)
@pytest.mark.parametrize("columns", [("question", "answer"), ("instruction", "output")])
def test_headings_of_markdown_are_text(tmp_path, columns, answer):
    trace = one(tmp_path, {columns[0]: "如何学好数学？", columns[1]: answer})
    assert (trace.thought or trace.steps or "", trace.answer) == ("", answer)


def test_the_mark_of_gsm8k_in_other_layouts(tmp_path):
    solved = "3+4=<<3+4=7>>7\nSo 7\n#### 7"
    for row in ({"instruction": Q, "output": solved}, {"messages": [ASK, {"role": "assistant", "content": solved}]}):
        trace = one(tmp_path, row)
        assert (trace.steps, trace.answer, trace.reference) == (["3+4=7", "So 7"], "7", "7")
    assert one(tmp_path, {"question": Q, "answer": "3+4=7\n####7\n"}).answer == "7"
    assert one(tmp_path, {"question": Q, "reasoning": T, "answer": solved}).thought == T


def test_all_parts_of_a_problem(tmp_path):
    told = "小明有3个苹果。"
    for name in ("context", "passage", "背景"):
        trace = one(tmp_path, {name: told, "question": "一共几个？", "cot": T, "answer": A})
        assert (trace.context, trace.task, trace.thought) == (told, "一共几个？", T)
    assert one(tmp_path, {"instruction": "求和", "question": Q, "cot": T, "answer": A}).context == f"求和\n\n{Q}"
    for instruction in ("", None):
        assert one(tmp_path, {"instruction": instruction, "input": Q, "output": TAGGED}).context == Q
    with pytest.raises(SourceError, match="field 'instruction' must be text, but is empty"):
        one(tmp_path, {"instruction": " ", "input": "", "output": TAGGED})


def test_openr1_takes_the_first_correct_and_complete_generation(tmp_path):
    row = {
        "problem": Q,
        "answer": "7",
        "generations": [
            "<think>wrong</think>8",
            "<think>right but cu",
            "<think>right</think>7",
            "<think>also</think>7",
        ],
        "is_reasoning_complete": [True, False, True, True],
        "correctness_math_verify": [False, True, False, True],
        "correctness_llama": [False, True, True, True],
    }
    assert one(tmp_path, row).thought == "right"
    assert one(tmp_path, {**row, "correctness_llama": None}).thought == "also"
    none_right = {**row, "correctness_llama": None, "correctness_math_verify": [False] * 4}
    assert one(tmp_path, none_right).thought == "wrong"  # complete; the check of answers takes it
    only_cut = one(tmp_path, {**row, "generations": ["<think>cut"], "is_reasoning_complete": [False]})
    assert (only_cut.thought, only_cut.answer, only_cut.closed) == ("cut", "", False)
    assert only_cut.truncated and not one(tmp_path, row).truncated


def test_instruction_with_input(tmp_path):
    trace = one(tmp_path, {"instruction": "翻译", "input": "apple", "output": TAGGED})
    assert trace.context == "翻译\n\napple"


def test_lists_in_csv_and_as_json_text(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["context", "steps", "task_desc", "answer"], [Q, '["甲", "乙"]', "", "x" * 200_000]]
        )
    (trace,) = read_traces(path)
    assert trace.steps == ["甲", "乙"] and len(trace.answer) == 200_000
    assert one(tmp_path, {"messages": json.dumps(LAYOUTS["messages"]["messages"])}).thought == T


# Errors

ROWS = [{"question": f"{i}加1等于几？", "reasoning": f"{i}+1={i + 1}", "answer": str(i + 1)} for i in range(700)]


def test_an_unknown_layout_is_refused_with_columns_and_wants(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"foo": 1, "bar": "b"}])
    for skip_broken in (False, True):
        with pytest.raises(SourceError) as error:
            list(read_traces(path, skip_broken=skip_broken))
        assert "x.jsonl#1: unknown layout. Its columns are foo, bar" in str(error.value)
        assert "No layout has any of them." in str(error.value)
        assert str(error.value).count("\n") == 1 and "docs/prepare.md lists all layouts" in str(error.value)


def test_the_nearest_layouts_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"Nearest layouts: question_answer \(lacks answer\|response\|output\)"):
        one(tmp_path, {"question": Q, "comment": A})


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ({}, "field 'steps' is missing"),
        ({"steps": None}, "field 'steps' is null"),
        ({"steps": "a"}, "field 'steps' must be a list, but is a str"),
    ],
)
def test_a_row_that_lacks_a_field_of_the_rows_before_is_told_so(tmp_path, steps, complaint):
    rest = {"context": Q, "task": "", "answer": A}
    whole = {**rest, "steps": ["a"]}
    path = write_jsonl(tmp_path / "d.jsonl", [whole, {**rest, **steps}, whole])
    with pytest.raises(SourceError, match=f"d.jsonl#2: .*{complaint}; .* layout record.*--skip_broken"):
        list(read_traces(path))
    assert len(list(read_traces(path, skip_broken=True))) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl", "c.jsonl"])
def test_a_whole_file_of_unknown_layout_is_an_error_wherever_it_is_in_the_folder(tmp_path, name):
    for each in ("a.jsonl", "b.jsonl", "c.jsonl"):
        write_jsonl(tmp_path / each, [{"foo": 1}, {"foo": 2}] if each == name else ROWS[:2])
    with pytest.raises(SourceError, match=f"{name}#1: unknown layout"):
        list(read_traces(tmp_path, skip_broken=True, on_broken=lambda row: None))


def test_single_rows_of_unknown_layout_are_broken_rows(tmp_path):
    path = write_jsonl(tmp_path / "d.jsonl", [{"foo": 1}, ROWS[0], {"bar": 1}])
    broken: list = []
    assert len(list(read_traces(path, skip_broken=True, on_broken=broken.append))) == 1
    assert [row.source for row in broken] == ["d.jsonl#1", "d.jsonl#3"]


def test_schemas(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"question": Q, "answer": A}])
    with pytest.raises(SourceError, match="Unknown schema 'nope'.*congliu_r1"):
        read_traces(path, schema="nope")
    with pytest.raises(
        SourceError, match=r"x.jsonl#1: schema 'congliu_r1' needs input.*its columns are question, answer"
    ):
        list(read_traces(path, schema="congliu_r1"))
    both = {**LAYOUTS["openr1_math"], "question": "other", "reasoning": "r"}
    assert one(tmp_path, both, schema="question_reasoning_answer").thought == "r"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"question": None, "reasoning": T, "answer": A}, r"d.jsonl#2 .*field 'question' must be text, but is null"),
        ({"question": 5, "reasoning": T, "answer": A}, r"d.jsonl#2 .*field 'question' must be text, but is a int"),
        ({"question": " ", "reasoning": T, "answer": A}, r"d.jsonl#2 .*field 'question' must be text, but is empty"),
        ({"question": Q, "reasoning": ["a"], "answer": A}, r"d.jsonl#2 .*field 'reasoning'"),
        ({"question": Q, "reasoning": T, "answer": {"a": 1}}, r"d.jsonl#2 .*field 'answer'"),
        ([1, 2], "d.jsonl, line 2: a row must be a JSON object"),
    ],
)
def test_broken_rows_stop_or_are_reported(tmp_path, bad, complaint):
    path = write_jsonl(tmp_path / "d.jsonl", [ROWS[0], bad, ROWS[1]])
    with pytest.raises(SourceError, match=f"{complaint}.*skip_broken=True"):
        list(read_traces(path))
    messages: list[str] = []
    traces = list(read_traces(path, skip_broken=True, on_broken=messages.append))
    assert [trace.source for trace in traces] == ["d.jsonl#1", "d.jsonl#3"]
    assert len(messages) == 1


def test_half_a_surrogate_pair_does_no_harm(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"question": "q\\ud83d", "reasoning": "a. b\\ud83d", "answer": "a"}\n')
    (record,) = read_records(path)
    json.dumps(record, ensure_ascii=False).encode()
