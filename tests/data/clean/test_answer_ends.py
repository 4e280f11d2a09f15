"""Answers that are cut or loop are seen; long lists, tables, verses, listings and letters are not touched."""

import pytest

from hf_reason.data.clean.answer_ends import ends_in_the_middle, prose_of, runs_in_a_loop
from hf_reason.data.clean.filters import repetition

CUT = [
    "先看代码：\n```python\ndef f(x):\n    return x",
    "~~~\nx = 1",
    "````md\n```python\nx = 1\n```",
    "所以面积是\n$$\nS = \\pi r^2",
    "由公式 \\[ x = \\frac{1}{2}",
    "解方程组\n\\begin{cases} x + y = 3 \\\\ x - y = 1",
    "所以答案是 $\\boxed{\\frac{1}{2}$",
    "所以答案是 \\boxed{",
    "综合以上分析，答案如下：",
    "Here is the complete code of the function:",
    "综上所述，小明一共买了三支铅笔和两块橡皮，",
    "这道题可以用三种方法解答，第一种是列方程，第二种是画图、",
    "我们把两边同时乘以三，这样做是可以的，因为",
    "我們把兩邊同時乘以三，這樣做是可以的，因為",
    "The total is 45 because each of the boxes holds nine pens and",
    "So we multiply both sides of the equation by the",
]
WHOLE = [
    *(
        "108",
        "A",
        "小明,",
        "答案：",
        "x:",
        "答案是正确的",
        "求它们的总和",
        "溶液达到饱和",
        "A、B",
        "是",
        "x, y",
        "$5$;$10$",
    ),
    "这个说法是错误的，正确的说法是三角形的内角和",
    "代码如下：\n```python\nx = 1\n```",
    "这个函数的完整代码如下：\n```python\nx = 1\n```",
    "所以变量的名字应当改成下面这一个，`total_price`",
    "代码如下：\n```python\nx = 1\n```\n运行后得到1。",
    "````md\n```python\nx = 1\n```\n````",
    "$$x = 1$$ 所以 $$y = 2$$",
    "每支铅笔 \\$5，两支 \\$10",
    "\\[ x = 1 \\] 所以 \\boxed{\\frac{1}{2}}",
    "\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}",
    "区间是 $[0, 1)$，集合是 $\\{1, 2\\}$",
    "用 `$$` 包住公式，用 `\\boxed{` 标出答案。",
    "Dear Ms Li,\nThank you for your letter.\n\nBest regards,",
    "I would like to know what the table is made of",
    "What do we divide it by and where is it kept in",
    "I can schedule each campaign for you one by one.\n```",
    "他高兴得忘乎所以，我看他高兴得有一点忘乎所以",
]


@pytest.mark.parametrize("answer", CUT)
def test_cut_answers(answer):
    assert ends_in_the_middle(answer)


@pytest.mark.parametrize("answer", WHOLE)
def test_whole_answers(answer):
    assert not ends_in_the_middle(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "\n".join(["答案是7。"] * 300),
        "答案是7。" * 40,
        "首先列式，然后求解。" + "让我再检查一遍这个结果，" * 30 + "让我再检",
        "The answer is 7. " * 30,
        "好的" * 100,
        "开头不同。" + "".join(f"第{chr(0x4E00 + 37 * i)}段说明怎样列式，" for i in range(12)) * 3,
        "一段正常的回答，说明了怎样解这道题。" * 1 + "。".join(["还需要考虑其他情况"] * 40),
        "```python\n" + "print('again')\n" * 60 + "```",
        "\n".join(["| 苹果 | 3 |"] * 60),
    ],
)
def test_loops(answer):
    assert runs_in_a_loop(answer)


_VERSES = "\n".join(
    f"{line}，\n快来快来数一数，二四六七八。"
    for line in ("门前大桥下，游过一群鸭", "咕嘎咕嘎，真呀真多呀", "数不清到底多少鸭", "赶鸭老爷爷，胡子白花花")
)


@pytest.mark.parametrize(
    "answer",
    [
        "\n".join(f"{i}. 第{i}个城市的人口是{i * 37 + 11}万人。" for i in range(1, 80)),
        "\n".join(f"{i}×{j}={i * j}" for i in range(1, 10) for j in range(1, i + 1)),
        "| 年份 | 数量 |\n|---|---|\n" + "\n".join(f"| {2000 + i} | 0 |" for i in range(40)),
        "\n".join("| 0 | 0 | 0 | 0 |" for _ in range(30)),
        "```python\ngrid = [\n" + "    [0, 0, 0, 0, 0, 0, 0, 0],\n" * 30 + "]\n```",
        "\\begin{pmatrix}" + "0 & 0 & 0 & 0 & 0 & 0 \\\\ " * 20 + "\\end{pmatrix}",
        "1/3 = 0." + "3" * 300,
        "1/7 = 0." + "142857" * 50,
        "标题\n" + "=" * 200 + "\n正文",
        "填空：" + "____" * 60,
        _VERSES,
        "哈哈哈哈哈哈，真好笑！",
        "-" * 400,
        "no no no no, that is wrong: 7",
    ],
)
def test_what_repeats_by_its_nature_is_no_loop(answer):
    assert not runs_in_a_loop(answer)
    assert repetition(prose_of(answer)) <= 0.7 or len(answer) < 100
