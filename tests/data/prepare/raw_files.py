"""Raw traces for the tests of `prepare`, and what makes two results the same."""

import hashlib
import json
import random
from pathlib import Path


def words(text: str) -> list[str]:
    return text.split()


_THINGS = words(
    """
    苹果 书本 铅笔 零件 树苗 邮票 水杯 桌椅 气球 贝壳 面包 糖果 玩具 风筝 灯笼 种子 瓷砖 毛巾 雨伞 纽扣
    """
)
_PEOPLE = words(
    """
    小明 小红 王老师 李师傅 张阿姨 赵工程师 陈医生 刘同学 周大爷 吴店长 郑姐姐 孙教练
    """
)
_PLACES = words(
    """
    学校 商店 工厂 果园 车站 图书馆 医院 公园 码头 仓库 农场 博物馆 超市 邮局 体育馆
    """
)


def raw_trace(number: int) -> dict[str, str]:
    """One trace in the layout of input/reasoning_content/content, unlike all others."""
    rng = random.Random(number)
    person, other = rng.sample(_PEOPLE, 2)
    thing, place, elsewhere = rng.choice(_THINGS), *rng.sample(_PLACES, 2)
    a, b, c = rng.randrange(20, 900), rng.randrange(2, 40), rng.randrange(2, 9)
    total, left = a + b, (a + b) * c
    openings = [
        f"{person}在{place}里数了数,一共有{a}个{thing},{other}又从{elsewhere}送来{b}个。",
        f"{place}原来存放着{a}个{thing}。后来{other}从{elsewhere}搬来了{b}个,{person}负责登记。",
        f"为了布置{place},{person}准备{a}个{thing},{elsewhere}的{other}另外补上{b}个。",
    ]
    chain = [
        f"首先看{place}原来的数量,{person}那里有{a}个{thing}。",
        f"然后加上{other}带来的{b}个,得到{a}+{b}={total}个。",
        f"题目说最后的数目是这个的{c}倍,所以计算{total}×{c}={left}。",
        f"因此{elsewhere}和{place}合起来应当是{left}个{thing}。",
    ]
    return {
        "input": rng.choice(openings) + f"如果最后的数量是现在的{c}倍,最后有多少个{thing}?",
        "reasoning_content": "\n\n".join(chain),
        "content": f"最后有{left}个{thing}。",
    }


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def raw_traces(path: Path) -> Path:
    """Write 90 traces: 75 good ones, and 5 each of exact copies, near copies and answers without a chain."""
    rows = [raw_trace(number) for number in range(75)]
    near = [dict(row, reasoning_content=row["reasoning_content"] + "完毕") for row in rows[10:15]]
    short = [dict(raw_trace(900 + number), reasoning_content="想了想。") for number in range(5)]
    everything = rows + rows[:5] + near + short
    random.Random(0).shuffle(everything)
    return write_jsonl(path, everything)


def folder_hash(folder: Path) -> dict[str, str]:
    """The content of each file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
