"""Steps that nothing needs go; anything doubtful stays."""

import pytest

from hf_reason.traces import prune_steps

PROBLEM = "商店有4箱苹果,每箱36个,卖出58个,又运来29个。现在有多少个苹果?"
STEPS = ["原来共有:36×4=144个", "卖出后:144-58=86个", "运来后:86+29=115个"]
IDLE = "两次相差:58-29=29个"
LARGE = "每箱再多19个:36+19=55个"
PROBLEM_19 = PROBLEM + "(每箱最多可以再装19个)"


def test_an_idle_calculation_goes():
    assert prune_steps([STEPS[0], LARGE, *STEPS[1:]], "115个", PROBLEM_19) == STEPS


def test_two_idle_calculations_that_need_only_each_other_go():
    idle = [LARGE, "那样共有:55×4=220个"]
    assert prune_steps([*idle, *STEPS], "115个", PROBLEM_19) == STEPS


@pytest.mark.parametrize(
    "chain",
    [
        STEPS,
        [STEPS[0], LARGE, "所以每箱可以装55个,但是这里不需要。", *STEPS[1:]],  # prose has the result
        [STEPS[0], LARGE, *STEPS[1:], "由步骤1和步骤3得到答案。"],
        [STEPS[0], LARGE, *STEPS[1:], "according to step 3 we are done"],
        ["先看题目。", *STEPS],
        [*STEPS, "检验:115-29=86个"],
        [STEPS[0], "错了:36+19=56个", *STEPS[1:]],  # wrong, which is for others to judge
    ],
)
def test_everything_else_stays(chain):
    assert prune_steps(chain, "115个", PROBLEM_19) == chain


def test_a_chain_that_does_not_give_the_answer_stays():
    chain = [STEPS[0], LARGE, *STEPS[1:]]
    assert prune_steps(chain, "999个", PROBLEM_19) == chain
    assert prune_steps(chain, "很多", PROBLEM_19) == chain
    assert prune_steps([], "115个", PROBLEM_19) == []


def test_a_result_that_is_also_needed_otherwise_stays():
    assert prune_steps([*STEPS[:2], IDLE, STEPS[2]], "115个", PROBLEM) == [*STEPS[:2], IDLE, STEPS[2]]


def test_on_word_problems_only_what_was_put_in_goes(records):
    gone = 0
    for record in records:
        steps, problem = record["steps"], f"{record['context']}(场内有7919人,场外有473人)"
        kept = prune_steps(steps, record["answer"], problem)
        assert kept == steps, "every step of these is needed"
        for place in range(len(steps)):
            more = [*steps[:place], "场内外一共:7919+473=8392人", *steps[place:]]
            found = prune_steps(more, record["answer"], problem)
            assert found in (steps, more)
            gone += found == steps
    assert gone > 0.9 * sum(len(record["steps"]) for record in records)
