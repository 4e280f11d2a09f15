"""The engine `continuous` answers as `generate` does, and refuses what it cannot serve."""

import asyncio
import copy
from dataclasses import replace

import pytest
from tiny import tiny_model, tiny_qwen2, tiny_step_reasoner

from hf_reason import LoARConfig, apply_loar
from hf_reason.serving.engines.base import Budget, EngineError, Job, ModelCard, Prompt
from hf_reason.serving.engines.continuous import ContinuousEngine
from hf_reason.serving.engines.generate import GenerateEngine
from hf_reason.serving.engines.served_model import ServedModel

QUESTIONS = ["小明有12个苹果,又买来25个。现在有多少个?", "1+1=?", "一本书有96页,每天读8页,几天读完?" * 4, "3*7=?"]


def _served(tokenizer, model, **fields):
    return ServedModel(ModelCard("tiny", 1, revision="a"), model.eval(), tokenizer, **fields)


@pytest.fixture(scope="module")
def engines(_session_tokenizer):
    tokenizer = copy.deepcopy(_session_tokenizer)
    model = tiny_qwen2(tokenizer)
    plain = GenerateEngine([_served(tokenizer, model)], max_batch_size=8)
    paged = ContinuousEngine(
        [_served(tokenizer, copy.deepcopy(model))], max_batch_size=3, max_prompt_tokens=300, max_new_tokens=100
    )
    yield plain, paged
    asyncio.run(plain.close())
    asyncio.run(paged.close())


def _answers(engine, jobs):
    async def one(job):
        thought, answer, steps, logprobs, end = "", "", None, [], None
        async for piece in engine.stream(engine.check(job)):
            thought, answer, end = thought + piece.thought, answer + piece.answer, piece.end
            steps = piece.steps if piece.steps is not None else steps
            logprobs += [(token.text, round(token.logprob, 3)) for token in piece.logprobs]
        return thought, answer, steps, logprobs, end

    async def together():
        return await asyncio.gather(*(one(job) for job in jobs))

    return asyncio.run(together())


def _jobs(**options):
    prompts = [Prompt(({"role": "user", "content": text},)) for text in QUESTIONS]
    return [Job("tiny", prompt, Budget(24, 12), **options) for prompt in prompts]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.2, "top_p": 0.9, "top_k": 50, "seed": 5},
        {"num_logprobs": 2, "frequency_penalty": 0.7, "presence_penalty": 0.1},
    ],
    ids=["greedy", "sampled", "penalties"],
)
def test_continuous_batching_answers_as_generate_does(engines, options):
    plain, paged = engines
    jobs = [*_jobs(**options)]
    jobs.append(replace(jobs[0], prompt=replace(jobs[0].prompt, thinking=False), budget=Budget(0, 9)))
    expected = _answers(plain, jobs)
    assert _answers(paged, jobs) == expected
    word = expected[0][1][2:4]
    cut = replace(jobs[0], stop=(word,))
    (found,) = _answers(paged, [cut])
    assert found[:3] == _answers(plain, [cut])[0][:3] and word not in found[1]
    assert all(end.thought_tokens <= 24 and end.answer_tokens <= 12 and answer for _, answer, _, _, end in expected)
    assert paged.load().running == paged.load().waiting == 0


def test_chains_beyond_the_batch_wait_and_one_that_leaves_is_forgotten(engines):
    _, paged = engines
    job = replace(_jobs(temperature=1.0, seed=1)[0], budget=Budget(60, 30))

    async def leave():
        stream = paged.stream(paged.check(job))
        others = [asyncio.create_task(_drain(paged, paged.check(job))) for _ in range(5)]
        await anext(stream)
        load = paged.load()
        await stream.aclose()
        await asyncio.gather(*others)
        return load

    load = asyncio.run(leave())
    assert load.running == 3 and load.waiting == 3
    (worker,) = paged._workers
    assert not worker._chains and not worker._names and worker._manager.output_router.output_queue.empty()


async def _drain(engine, accepted):
    async for _ in engine.stream(accepted):
        pass


def test_a_batch_that_fails_ends_its_chains_and_no_others(engines, monkeypatch):
    _, paged = engines
    (worker,) = paged._workers
    accepted = paged.check(_jobs()[0])
    expected = _answers(paged, [_jobs()[0]])

    def broken(rows, scores):
        raise FloatingPointError("broken")

    monkeypatch.setattr(worker._manager.logit_processor.logits_processor[0], "choose", broken)
    with pytest.raises(EngineError, match="Generation failed"):
        asyncio.run(_drain(paged, accepted))
    worker._manager._generation_thread.join(10)
    assert _answers(paged, [_jobs()[0]]) == expected  # the manager started again


def _loar(tokenizer):
    model = tiny_qwen2(tokenizer, num_attention_heads=4, num_key_value_heads=4)
    apply_loar(model, LoARConfig(budget=0.5))
    return model


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tiny_step_reasoner, "is a StepReasoner"),
        (_loar, "is a LoAR"),
        (lambda tokenizer: tiny_model(tokenizer, "mamba"), "keeps no keys and values"),
        (
            lambda tokenizer: tiny_model(tokenizer, "falcon_alibi"),
            "is a FalconForCausalLM, and transformers' continuous",
        ),
    ],
)
def test_what_continuous_batching_cannot_do_is_refused(tokenizer, make, why):
    with pytest.raises(ValueError, match=f"{why}.*--engine generate") as caught:
        ContinuousEngine([_served(tokenizer, make(tokenizer))], max_prompt_tokens=100, max_new_tokens=50)
    assert "\n" not in str(caught.value)


def test_adapters_are_refused(tokenizer):
    served = _served(tokenizer, tiny_qwen2(tokenizer), adapters={"finance": ModelCard("tiny:finance", 1, "tiny")})
    with pytest.raises(ValueError, match="served with adapters.*--engine generate"):
        ContinuousEngine([served])
