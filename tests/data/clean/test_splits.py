"""Near-copies of a context never cross splits; templates do not swallow a split."""

import random

import numpy as np
import pytest
from key_files import key_file

from hf_reason.data.clean.splits import SPLITS, assign_splits, context_families, context_keys
from hf_reason.data.clean.text_keys import letters_and_digits


def words(text: str) -> list[str]:
    return text.split()


_WORDS = words(
    """
    苹果 商店 火车 老师 工厂 水池 银行 病人 合同 法院 分子 细胞 函数 代码 历史 诗歌 速度 利率 体温 面积
    购买 出发 批改 生产 注满 存入 服用 签订 判决 反应 分裂 求解 运行 发生 描写 增加 下降 测量 计算 比较
    """
)


def problem(rng: random.Random) -> str:
    return "".join(rng.choice(_WORDS) for _ in range(14)) + f",共{rng.randrange(10, 9999)}个,还剩多少?"


def splits_of(contexts: list[str], validation: float, test: float) -> np.ndarray:
    with key_file(context_keys(contexts)) as keys:
        return assign_splits(keys, np.arange(len(contexts)), validation, test)


def test_normalisation_ignores_case_space_punctuation_and_width():
    assert letters_and_digits(" 求 X的值:3,5? ") == letters_and_digits("求x的值35") == "求x的值35"
    assert letters_and_digits("+ - ×") == "+ - ×"
    one, other = context_keys(["求 X的值:35?", "求x的值35"])
    assert one == other


def test_a_planted_near_copy_never_crosses():
    rng = random.Random(1)
    originals = [problem(rng) for _ in range(300)]
    copies = []
    for text in originals:
        place = rng.randrange(5, 20)
        copies.append(
            rng.choice(["请问:" + text, text[:place] + "呢" + text[place + 1 :], text.replace("共", "一共")])
        )
    splits = splits_of(originals + copies, 0.2, 0.2)
    assert (splits[:300] == splits[300:]).all()
    assert set(splits.tolist()) == {0, 1, 2}


def test_shares_are_kept_and_different_problems_are_families_of_their_own():
    rng = random.Random(2)
    contexts = [problem(rng) for _ in range(4000)]
    with key_file(context_keys(contexts)) as keys:
        families = context_families(keys, np.arange(4000))
    assert len(set(families.tolist())) > 3950
    splits = splits_of(contexts, 0.1, 0.05)
    assert np.bincount(splits, minlength=3) / 4000 == pytest.approx([0.85, 0.1, 0.05], abs=0.02)


def test_the_order_of_the_records_does_not_matter_and_growth_moves_nothing():
    rng = random.Random(3)
    contexts = [problem(rng) for _ in range(400)]
    contexts += [f"请问:{text}" for text in contexts[:100]]
    splits = splits_of(contexts, 0.2, 0.2)
    order = list(range(len(contexts)))
    rng.shuffle(order)
    shuffled = splits_of([contexts[i] for i in order], 0.2, 0.2)
    assert [splits[i] for i in order] == shuffled.tolist()
    grown = splits_of(contexts + [problem(rng) for _ in range(400)], 0.2, 0.2)
    assert grown[:500].tolist() == splits.tolist()


def test_a_template_is_split_by_its_numbers_but_not_between_its_copies():
    template = "使用数字{}、{}和{},每个数字只用一次,用加减乘除写出一个等于{}的算式,并说明理由。"
    contexts = [template.format(i, 2 * i + 1, i + 7, 3 * i + 5) for i in range(600)]
    copies = [text.replace("并说明理由", "并且说明理由") for text in contexts]
    splits = splits_of(contexts + copies, 0.2, 0.2)
    assert (splits[:600] == splits[600:]).all()
    counts = np.bincount(splits[:600], minlength=len(SPLITS))
    assert counts.min() > 60, f"a template fell into one split: {counts}"


def test_a_template_without_numbers_is_split_where_contexts_differ():
    frame = "请把下面这个词语翻译成英文,并且说明它在句子里可以怎样使用,再举出两个完整的例子来说明:"
    contexts = [frame + a + b for a in _WORDS for b in _WORDS[:10]]
    splits = splits_of(contexts + contexts, 0.2, 0.2)
    assert (splits[: len(contexts)] == splits[len(contexts) :]).all()
    assert np.bincount(splits, minlength=3).min() > 50


def test_nothing_in_nothing_out():
    assert splits_of([], 0.1, 0.1).shape == (0,)


def test_rows_that_are_not_kept_count_for_nothing():
    rng = random.Random(6)
    contexts = [problem(rng) for _ in range(200)]
    gone = ["请问:" + text for text in contexts]
    mixed = [text for pair in zip(contexts, gone, strict=True) for text in pair]
    with key_file(context_keys(mixed)) as keys:
        found = assign_splits(keys, np.arange(0, 400, 2), 0.2, 0.2)
    assert found.tolist() == splits_of(contexts, 0.2, 0.2).tolist()
