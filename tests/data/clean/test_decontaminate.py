"""Evaluation problems are recognised inside training texts, from evaluation files of every kind."""

import gzip
import json
import random
import re
from pathlib import Path

import pytest
from opencc import OpenCC

from hf_reason.data.clean.decontaminate import Decontaminator
from hf_reason.data.record import DataError
from hf_reason.data.synthetic.word_problems import generate_word_problems

CONTEXT = "学校图书馆上午借出故事书36本，下午借出的本数比上午的2倍少12本，这一天一共借出故事书多少本？"


def random_text(rng: random.Random, length: int) -> str:
    # A stretch of the character table without numerals.
    return "".join(chr(0x5700 + rng.randrange(3000)) for _ in range(length))


def write_rows(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_an_evaluation_problem_is_found_with_its_file_and_row(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "test.jsonl", [{"question": "小明有3个苹果。"}, {"question": CONTEXT, "answer": "96"}]
    )
    found = Decontaminator([path])
    assert found.hits(CONTEXT) == "test.jsonl#2"
    assert found.hits("请解答下面这道题：\n" + CONTEXT + "\n请一步一步地想。") == "test.jsonl#2"
    assert found.hits(CONTEXT.replace("故事书多少本", "故事书几本")) == "test.jsonl#2"
    assert found.hits("这一天图书馆里来了很多人，大家都在认真看书，没有人说话。") is None


def test_other_numbers_and_common_phrases_are_no_contamination(tmp_path: Path) -> None:
    long = random_text(random.Random(5), 200) + CONTEXT
    found = Decontaminator([write_rows(tmp_path / "test.jsonl", [{"problem": long}, {"problem": CONTEXT}])])
    assert found.hits(long) == "test.jsonl#1"
    assert found.hits(long.replace("36", "48")) is None
    assert found.hits(long[:60] + "上午36本，下午2本，昨天12本") is None
    assert found.hits("这一天一共借出故事书多少本？上午36本，下午2本，昨天12本，请问小红怎样计算这些数量。") is None


def test_short_problems_count_only_as_a_whole(tmp_path: Path) -> None:
    found = Decontaminator([write_rows(tmp_path / "test.jsonl", [{"question": "3+5=?"}])])
    assert found.hits("3 + 5 = ？") == "test.jsonl#1"
    assert found.hits("小明知道3+5=8，他还想知道别的。") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"第一行是别的内容，并不重要\n{CONTEXT}\n"),
        ("a.json", json.dumps([{"id": 1, "question": "别的问题，与此无关"}, {"id": 2, "question": CONTEXT}])),
        ("a.json", json.dumps({"version": 1, "data": ["别的问题，与此无关", CONTEXT]})),
        ("a.json", f'{{"question": "别的问题"}}\n{{"题目": "{CONTEXT}"}}\n'),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"instruction": "请回答下面的问题", "input": CONTEXT})),
        ("a.csv", f'id,question\n1,"别的问题"\n2,"{CONTEXT}"\n'),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"messages": [{"role": "user", "content": CONTEXT}]})),
        ("a.jsonl", '"别的问题"\n' + json.dumps({"conversations": [{"from": "human", "value": CONTEXT}]})),
    ],
)
def test_files_of_many_kinds(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert Decontaminator([tmp_path / name]).hits(CONTEXT) == f"{name}#2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "No such file"),
        ("empty.jsonl", "", "no problem"),
        ("broken.jsonl", '{"question": \n', "line 1: not valid JSON"),
        ("other.jsonl", '{"image": "x", "label": 3}\n', "#1: no problem in it: none of .* It has image, label"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        Decontaminator([tmp_path / name])
    assert name in str(error.value)


def test_folders_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"question": CONTEXT}).encode()))
    assert Decontaminator([tmp_path / "folder"]).hits(CONTEXT) == "a.jsonl.gz#1"


def planted(tmp_path: Path, *rows: object) -> Decontaminator:
    rows = tuple(row if isinstance(row, dict) else {"question": row} for row in rows)
    return Decontaminator([write_rows(tmp_path / "test.jsonl", list(rows))])


LONG_PROMPT = "You are a helpful assistant. Please think step by step and answer the following question carefully."


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "请回答下面的问题", "input": CONTEXT},
        {"instruction": LONG_PROMPT, "input": CONTEXT},
        {"instruction": CONTEXT, "input": ""},
        {"messages": [{"role": "system", "content": LONG_PROMPT}, {"role": "user", "content": CONTEXT}]},
        {"question": f"{LONG_PROMPT}\n{CONTEXT}\nPlease put your final answer within the box."},
    ],
)
def test_all_parts_of_a_row_are_the_problem_and_instructions_are_not(tmp_path: Path, row: dict) -> None:
    assert planted(tmp_path, row).hits(CONTEXT) == "test.jsonl#1"


FRAMES = [
    "请解决以下数学应用题",
    "請解決以下數學應用題",
    "你是一个数学老师",
    "你是一位有二十年经验的小学数学教师，请用中文解答学生的问题。",
    "作为专家，给出你的答案",
    "这是一道小学应用题",
    "Let's do some math.",
    "You are a helpful math tutor.",
    "Below is an instruction that describes a task, paired with an input. Write a response.",
]
SHORT = "小红有15本书，小明的书是她的3倍，两人一共有多少本书？"


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("problem", [CONTEXT, SHORT], ids=["long", "short"])
def test_what_only_frames_a_problem_is_left_out_of_a_single_row(tmp_path: Path, frame: str, problem: str) -> None:
    rows = [
        {"instruction": frame, "input": problem},
        {"instruction": problem, "input": frame},
        {"question": f"{frame}：{problem}"},
        {"question": f"{problem}{frame}"},
    ]
    for row in rows:
        found = planted(tmp_path, row)
        assert found.hits(problem) == "test.jsonl#1", row
        assert found.hits(problem.replace("36", "48").replace("15", "16")) is None
        assert found.hits(f"{frame}\n一辆汽车每小时行60千米，4小时行多少千米？") is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instruction": "把下面的句子翻译成英文", "input": "今天天气很好。"}, "今天天气很好。我们去公园吧，好吗？"),
        ({"instruction": "请写一首诗", "input": "春天"}, "春天来了，花儿开了。请问春天有几个月？"),
        ({"question": "小红是小明的妹妹。\n小明的妹妹叫什么名字？"}, "小明的妹妹叫什么名字？"),
        (
            {"context": "请客那天来了很多人。", "question": "来的人里谁最高，他为什么请客？"},
            "来的人里谁最高，他为什么请客？",
        ),
    ],
)
def test_a_task_with_a_short_input_and_a_passage_are_no_frames(tmp_path: Path, row: dict, text: str) -> None:
    assert planted(tmp_path, row).hits(text) is None


def test_lines_that_the_rows_repeat_are_instructions(tmp_path: Path) -> None:
    prompt = "下面是一道小学数学应用题，你要像一位耐心的老师那样把它讲清楚，让每个孩子都能听懂。\n"
    others = [f"{prompt}第{i}组有{i + 4}个苹果，又买{i + 9}个，现在几个？" for i in range(8)]
    found = planted(tmp_path, prompt + CONTEXT, *others)
    assert found.hits(CONTEXT) == "test.jsonl#1"
    assert found.hits(prompt + "一辆汽车每小时行60千米，3小时行多少千米？") is None


STEM = "Which of the following statements is correct?"
CHOICES = [
    "Plants breathe oxygen at night only",
    "The moon is larger than the earth",
    "Water boils at 100 degrees at sea level",
    "Light is slower than sound",
]
CHINESE = {"A": "光在真空中传播最慢", "B": "水的沸点与气压有关", "C": "月球比地球大", "D": "声音可以在真空中传播"}


def listed(stem: str, choices: list[str], mark: str = ". ") -> str:
    return stem + "".join(f"\n{letter}{mark}{choice}" for letter, choice in zip("ABCD", choices, strict=True))


def test_stems_are_compared_with_their_options(tmp_path: Path) -> None:
    other = ["Cats bark", "Dogs meow", "Fish fly", "Birds swim"]
    found = planted(tmp_path, {"question": STEM, "choices": CHOICES, "answer": 2}, listed(STEM, other))
    assert found.hits(listed(STEM, CHOICES)) == found.hits(listed(STEM, CHOICES[::-1], ") ")) == "test.jsonl#1"
    assert found.hits(listed(STEM, other)) == "test.jsonl#2"
    assert found.hits(listed(STEM, ["One", "Two", "Three", "Four"])) is None
    assert found.hits(STEM) is None


def test_chinese_stems_with_options_in_columns(tmp_path: Path) -> None:
    found = planted(tmp_path, {"question": "下列说法正确的是", **CHINESE, "answer": "B"})
    assert found.hits(listed("下列说法正确的是( )", list(CHINESE.values()), "．")) == "test.jsonl#1"
    in_a_row = (
        "下列說法正確的是（ ）A. 光在真空中傳播最慢 B. 水的沸點與氣壓有關 C. 月球比地球大 D. 聲音可以在真空中傳播"
    )
    assert found.hits(in_a_row) == "test.jsonl#1"
    assert found.hits(listed("下列说法正确的是", list("甲乙丙丁"))) is None


@pytest.mark.parametrize("stem", [STEM, "下列说法正确的是", "下列關於細胞的敘述,錯誤的是( )"])
def test_a_stem_without_options_cannot_be_decided(tmp_path: Path, stem: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        found = planted(tmp_path, stem, CONTEXT)
    assert "1 of 2 problems" in caplog.text and "options" in caplog.text
    assert found.undecidable == 1
    assert found.hits(listed(stem, ["甲", "乙", "丙", "丁"])) is None
    assert found.hits(CONTEXT) == "test.jsonl#2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("计算:(2+3)×4", "2+3×4"), ("3*5", "35"), ("计算 x^2", "计算 x2"), ("1.5", "15"), ("计算3-5", "计算3+5")),
        *(("求(2+3)×4的值", "求2+3×4的值"), ("3,5", "35"), ("计算:3²", "计算:32"), ("5!", "5"), ("-3+5", "3+5")),
        *(("3:5=?", "35=?"), ("3/4+1", "34+1"), ("解方程:3x+5=20", "解方程:3x-5=20"), ("x+3<5", "x+3>5")),
    ],
)
def test_signs_are_not_noise(tmp_path: Path, one: str, other: str) -> None:
    for problem, text in ((one, other), (other, one)):
        assert planted(tmp_path, problem).hits(text) is None
        assert planted(tmp_path, problem).hits(problem) == "test.jsonl#1"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        *(("计算:(2+3)×4", "（２＋３）＊４＝？"), ("12÷3=?", "求 12/3 的值"), ("3+5=?", "计算3+5")),
        *((r"$12 \div 3$", "12÷3"), ("Calculate (2+3)*4.", "计算:(2+3)×4"), ("3 + 5 = ___", "3+5等于多少?")),
        *(("解方程: 3x+5=20", "Solve 3x+5=20."), (r"计算:\frac{1}{2}+\frac{1}{3}", "計算1/2+1/3")),
    ],
)
def test_a_formula_is_the_same_in_other_words(tmp_path: Path, problem: str, text: str) -> None:
    assert planted(tmp_path, problem).hits(text) == planted(tmp_path, text).hits(problem) == "test.jsonl#1"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("中国的首都是哪里?", "请问,中國的首都是哪裡？"),
        ("小明有30元,买了一条鱼,剩6元,这条鱼多少钱?", "小紅有30元,買了一條魚,剩6元,這條魚多少錢?"),
        ("小明有三个苹果,又买了五个,现在有几个?", "小红有3个苹果,又买了5个,现在有几个?"),
        ("小明有1000元,花了250元,还剩多少元?", "小明有1,000元，花了250元，还剩多少元？"),
        (
            "A train travels 60 miles an hour for 3 hours. How far is it?",
            "A bus travels 60 miles an hour for 3 hours. How far is it?",
        ),
        ("有36盆盆景。把这些盆景摆成4排，平均每排摆几盆？", "老师有36盆花。把这些花摆成4排，平均每排摆几盆？"),
    ],
)
def test_near_copies_of_short_problems(tmp_path: Path, problem: str, text: str) -> None:
    assert planted(tmp_path, problem).hits(text) == planted(tmp_path, text).hits(problem) == "test.jsonl#1"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("中国的首都是哪里?", "法国的首都是哪里?"),
        ("What is the capital of France?", "What is the capital of Germany?"),
        ("Who was the first president of the United States?", "Who was the second president of the United States?"),
        ("请解释什么是光合作用", "请解释什么是呼吸作用"),
        ("比较大小:3.14○π", "比较大小:3.14○3"),
        ("三分之一加四分之一等于多少?", "三分之一加五分之一等于多少?"),
        ("x+y=10, x-y=2, 求x和y。", "x+y=10, x+y=2, 求x和y。"),
        ("Let f(x)=(x+1)^2. Find f(3).", "Let f(x)=x+1^2. Find f(3)."),
        ("小明有30元,买了一条鱼,剩6元,这条鱼多少钱?", "小明有30元,买了一条鱼,又买6元虾,一共多少钱?"),
        ("一个正方形的边长是5厘米,面积是多少?", "一个正方形的边长是5厘米,周长是多少?"),
        ("一个长方形长8厘米,宽5厘米,面积是多少?", "一个长方形长8厘米,宽6厘米,面积是多少?"),
        (
            "Tom has 12 pens, 3 times as many as Ann. How many has Ann?",
            "Tom has 12 pens, 4 times as many as Ann. How many has Ann?",
        ),
    ],
)
def test_the_same_template_is_another_problem(tmp_path: Path, problem: str, text: str) -> None:
    assert planted(tmp_path, problem).hits(text) is planted(tmp_path, text).hits(problem) is None


def test_the_same_passage_with_another_question(tmp_path: Path) -> None:
    passage = (
        "光合作用是绿色植物利用太阳能，把二氧化碳和水合成有机物并放出氧气的过程，它对整个生物界都有重要意义，"
        "是地球上最重要的化学反应。"
    )
    found = planted(tmp_path, {"context": passage, "question": "光合作用放出什么气体?", "answer": "氧气"})
    assert found.hits(f"{passage}\n光合作用放出什么气体?") == "test.jsonl#1"
    assert found.hits(f"{passage}\n这段话主要说了什么内容,请你概括一下?") is None


def test_precision_and_recall_on_planted_problems(tmp_path: Path) -> None:
    """Every copy with another name, in other characters or inside an instruction is found; other numbers never are."""
    rows = [row["context"] for row in generate_word_problems(120, domain="math")]
    found = planted(tmp_path, *rows)
    converter = OpenCC("s2tw")
    for number, row in enumerate(rows, 1):
        for copy in (row, converter.convert(row), f"请一步一步思考。\n{row}", row.replace("小", "阿")):
            assert found.hits(copy) is not None, (number, copy)
        assert found.hits(re.sub(r"\d+", lambda match: str(int(match[0]) + 1117), row)) is None
