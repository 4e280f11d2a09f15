"""Writing token by token: the cache gives what the whole text gives, and nothing is computed twice."""

import pytest
import torch
from transformers import DynamicCache, TextStreamer

from hf_reason.models.step_reasoner.cache_step_reasoner import StepReasonerCache

CLOSE = {"rtol": 0, "atol": 1e-5}  # RMS norms round to float32
SHAPES = {
    "plain": {},
    "slots": {"plan_slots": 2},
    "triggers": {"trigger_token_ids": [4], "use_qk_norm": True},
    "short pieces, triggers, slots": {"trigger_token_ids": [4], "max_piece_length": 3, "plan_slots": 1},
    "every token a piece": {"boundary_token_ids": list(range(31)), "plan_slots": 1},
    "pieces of two": {"boundary_token_ids": [], "max_piece_length": 2},
    "decoder window": {"decoder_window": 3, "plan_slots": 1},
    "decoder window of one": {"decoder_window": 1, "num_decoder_layers": 1},
    "no reasoner": {"num_reasoner_layers": 0},
    "no encoder": {"num_encoder_layers": 0, "plan_slots": 1},
    "decoder only": {"num_encoder_layers": 0, "num_reasoner_layers": 0},
}
every_shape = pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES.keys())
# a third of the vocabulary ends a piece, so that a model with random weights finishes some
WRITING = {"boundary_token_ids": list(range(3, 12)), "plan_slots": 1}


def _mask(tokens):
    return (tokens != 0).long()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@every_shape
@pytest.mark.parametrize("text", ["abc<d.e=f.g", "<a.bc=.d", "abc.d.e"])
def test_prefill_at_every_cut_then_token_by_token(step_model, ids, text, fields):
    model, tokens = step_model(**fields), ids(text)
    for cut in range(1, len(text)):
        # what follows the prefill is chain in any case
        full = model(tokens, prompt_length=cut).logits
        outputs = model(tokens[:, :cut], use_cache=True)
        torch.testing.assert_close(outputs.logits[:, -1], full[:, cut - 1], **CLOSE)
        cache = outputs.past_key_values
        for place in range(cut, len(text)):
            assert cache.get_seq_length() == place
            logits = model(tokens[:, place : place + 1], past_key_values=cache, use_cache=True).logits
            torch.testing.assert_close(logits[:, 0], full[:, place], **CLOSE)


@every_shape
def test_several_tokens_at_once_onto_a_cache(step_model, ids, fields):
    model, text = step_model(**fields), "abc<d.ef=g.hi.j"
    full = model(ids(text)).logits
    for first, second in ((4, 9), (6, 7), (5, 14)):
        cache = model(ids(text[:first]), use_cache=True).past_key_values
        parts = [ids(text[first:second]), ids(text[second:])]
        logits = torch.cat([model(part, past_key_values=cache).logits for part in parts], dim=1)
        torch.testing.assert_close(logits, full[:, first:], **CLOSE)


@every_shape
@pytest.mark.parametrize(
    "prefill", [["___a<", "bcde<", "_fgh."], ["_a<b.", "cd<.e", "<f.g="], ["a<___", "bc<d.", "efgh_"]]
)
def test_rows_that_finish_pieces_at_different_times(step_model, ids, prefill, fields):
    model = step_model(**fields)
    following = ["bc.de.f=ghij", "c.....d.=e=f", "abcdefghij.k"]
    start = ids(*prefill)
    cache = model(start, attention_mask=_mask(start), use_cache=True).past_key_values
    columns = ids(*following).split(1, dim=1)
    logits = torch.cat([model(column, past_key_values=cache).logits for column in columns], dim=1)
    for row, begun, rest in zip(logits, prefill, following, strict=True):
        begun = begun.replace("_", "")
        full = model(ids(begun + rest), prompt_length=len(begun)).logits[0, len(begun) :]
        torch.testing.assert_close(row, full, **CLOSE)


MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "num_return_sequences": 3, "top_k": 8, "temperature": 1.5},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampled beams": {"do_sample": True, "num_beams": 2},
    "never the same three twice": {"do_sample": False, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize("prompts", [["abcd<", "__ef<"], ["abcde", "_fghi"], ["ab<c.de", "f<g.hi."]])
def test_generate_with_and_without_a_cache(step_model, ids, prompts, mode):
    model = step_model(**WRITING)
    tokens = ids(*prompts)
    mask = _mask(tokens)
    results = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        results.append(
            model.generate(
                tokens,
                attention_mask=mask,
                use_cache=use_cache,
                max_new_tokens=14,
                output_logits=True,
                return_dict_in_generate=True,
                **mode,
            )
        )
    cached, plain = results
    assert torch.equal(cached.sequences, plain.sequences)
    assert len(cached.logits) == len(plain.logits)
    running = torch.ones(len(cached.logits[0]), dtype=torch.bool)
    for place, (one, other) in enumerate(zip(cached.logits, plain.logits, strict=True)):
        # padding behind the end of a text is masked without a cache and read with one; nothing uses its logits
        torch.testing.assert_close(one[running], other[running], **CLOSE)
        if "num_beams" not in mode:
            running &= cached.sequences[:, tokens.shape[1] + place] != model.config.eos_token_id
    assert isinstance(cached.past_key_values, StepReasonerCache)
    assert getattr(plain, "past_key_values", None) is None
    # the test has to have finished pieces at different times
    chain = cached.sequences[:, tokens.shape[1] :]
    assert torch.isin(chain, torch.tensor(WRITING["boundary_token_ids"])).any()


def test_greedy_is_the_best_token_of_the_whole_text(step_model, ids):
    model = step_model(**WRITING, trigger_token_ids=[20, 21])
    prompt = "abc<d.e"
    written = model.generate(ids(prompt), max_new_tokens=15, do_sample=False, eos_token_id=None)
    best = model(written).logits.argmax(dim=-1)
    assert torch.equal(written[0, len(prompt) :], best[0, len(prompt) - 1 : -1])


def test_a_half_written_chain_is_continued(step_model, ids):
    model = step_model(**WRITING)
    prompt = ids("abcd<")
    whole = model.generate(prompt, max_new_tokens=16, do_sample=False, eos_token_id=None)
    for cut in range(prompt.shape[1], whole.shape[1]):
        again = model.generate(whole[:, :cut], max_new_tokens=whole.shape[1] - cut, do_sample=False, eos_token_id=None)
        assert torch.equal(again, whole)


def test_a_returned_cache_is_gone_on_with(step_model, ids):
    model = step_model(**WRITING)
    settings = {"do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
    first = model.generate(ids("abcd<"), max_new_tokens=6, **settings)
    longer = torch.cat([first.sequences, ids("x.yz")], dim=1)
    going_on = model.generate(longer, past_key_values=first.past_key_values, max_new_tokens=6, **settings)
    afresh = model.generate(longer, max_new_tokens=6, **settings)
    assert torch.equal(going_on.sequences, afresh.sequences)


def test_streaming(step_model, ids):
    class Listener(TextStreamer):
        def __init__(self):
            self.heard, self.ended = [], False

        def put(self, value):
            self.heard.append(value.flatten().tolist())

        def end(self):
            self.ended = True

    model, listener = step_model(**WRITING), Listener()
    written = model.generate(ids("ab<c"), max_new_tokens=9, do_sample=False, streamer=listener, eos_token_id=None)
    assert listener.heard[0] == ids("ab<c")[0].tolist()
    assert [len(part) for part in listener.heard[1:]] == [1] * 9
    assert sum(listener.heard, []) == written[0].tolist()
    assert listener.ended


@pytest.fixture
def count():
    """Entries that a stack reads in one call of its first layer, as a list; filled by the model's forwards."""

    def listen(model, stack):
        read = []
        getattr(model.model, stack)[0].register_forward_pre_hook(
            lambda module, inputs: read.append(tuple(inputs[0].shape[:2]))
        )
        return read

    return listen


@pytest.mark.parametrize("slots", [0, 2])
def test_nothing_is_computed_twice(step_model, ids, count, slots):
    model = step_model(plan_slots=slots)
    encoder, reasoner, decoder = (count(model, stack) for stack in ("encoder", "reasoner", "decoder"))
    prompt, following = "abc<", "def.gh..ijk"
    cache = model(ids(prompt), use_cache=True).past_key_values
    assert (encoder, reasoner, decoder) == ([(1, 3)], [(1, 2 + slots)], [(1, 2)])
    for character in following:
        model(ids(character), past_key_values=cache)
    assert encoder == [(1, 3)]
    # "c<def.", "gh.", "." and the slots behind each; "ijk" is not finished
    assert reasoner[1:] == [(1, length + slots) for length in (6, 3, 1)]
    assert decoder[1:] == [(1, 1)] * len(following)


@pytest.mark.parametrize("slots", [0, 2])
def test_a_prefill_that_ends_a_piece_has_read_it(step_model, ids, count, slots):
    model = step_model(plan_slots=slots)
    reasoner, decoder = (count(model, stack) for stack in ("reasoner", "decoder"))
    cache = model(ids("abc<de.f."), use_cache=True).past_key_values
    # "c<de.", "f." and the slots before each and behind the last
    assert (reasoner, decoder) == ([(1, 7 + 3 * slots)], [(1, 7)])
    for character in "gh.i":
        model(ids(character), past_key_values=cache)
    assert reasoner[1:] == [(1, 3 + slots)]
    assert decoder[1:] == [(1, 1)] * 4


def test_the_reasoner_runs_for_the_rows_that_finished(step_model, ids, count):
    model = step_model()
    reasoner = count(model, "reasoner")
    cache = model(ids("ab<", "cd<", "ef<"), use_cache=True).past_key_values
    runs = []
    for column in ("a.b", "..c", "ddd", ".ed", "abc"):
        model(ids(*column), past_key_values=cache)
        runs.append(reasoner[1 + sum(map(len, runs)) :])
    # "d<." of row 1; "b<a." and "." of rows 0 and 1, at the same time; "d." of row 0; each before its last token is
    # read, which sees it
    assert runs == [[(1, 3)], [(2, 4)], [], [(1, 2)], []]


def test_rows_of_a_cache_are_moved_repeated_and_chosen(step_model, ids):
    model = step_model(plan_slots=1)

    def begun():
        cache = model(
            ids("_ab<c", "de<f.", "gh<ij"), attention_mask=_mask(ids("_ab<c", "de<f.", "gh<ij"))
        ).past_key_values
        model(ids(".", "k", "l"), past_key_values=cache)
        return cache

    texts = ["ab<c.", "de<f.k", "gh<ijl"]

    def check(cache, order):
        assert len(cache.rows) == len(order)
        # different tokens follow in rows that were one: they must not share anything
        following = [f"{'mn.o'[i % 4]}.{'pqrs'[i % 4]}" for i in range(len(order))]
        logits = [model(column, past_key_values=cache).logits for column in ids(*following).split(1, dim=1)]
        for row, text, rest in zip(torch.cat(logits, dim=1), [texts[i] for i in order], following, strict=True):
            torch.testing.assert_close(row, model(ids(text + rest)).logits[0, len(text) :], **CLOSE)

    check(begun(), [0, 1, 2])
    cache = begun()
    cache.reorder_cache(torch.tensor([2, 0, 0]))
    check(cache, [2, 0, 0])
    cache = begun()
    cache.batch_repeat_interleave(2)
    check(cache, [0, 0, 1, 1, 2, 2])
    cache = begun()
    cache.batch_select_indices(torch.tensor([1]))
    check(cache, [1])
    cache = begun()
    cache.reset()
    assert (cache.get_seq_length(), cache.nbytes()) == (0, 0)
    outputs = model(ids("ab<"), past_key_values=cache)
    torch.testing.assert_close(outputs.logits, model(ids("ab<")).logits, **CLOSE)


@pytest.mark.parametrize(("slots", "window"), [(0, 0), (2, 0), (2, 2)])
def test_bytes_of_the_cache(step_model, ids, slots, window):
    model = step_model(plan_slots=slots, decoder_window=window, num_reasoner_layers=3, num_decoder_layers=1)
    tokens = ids("_abc<", "defg<")
    cache = model(tokens, attention_mask=_mask(tokens), use_cache=True).past_key_values
    for column in ("hx", ".y", "iz"):
        model(ids(*column), past_key_values=cache)
    # row 0: prompt abc, finished piece "c<h.", two pieces begun, "c<h.i" read by the decoder; row 1: prompt defg,
    # nothing finished, one piece begun, "g<xyz" read by the decoder
    reasoner = (3 + 4 + 2 * slots) + (4 + slots)
    decoder = reasoner + 2 * (window or 5)
    one = 2 * (2 * 8) * 8  # keys and values of 2 heads of width 8, 8 bytes a number
    assert cache.nbytes() == one * (3 * reasoner + decoder)


def test_boundaries_may_change_between_two_texts(step_model, ids):
    model = step_model()
    model.generate(ids("ab<"), max_new_tokens=2, do_sample=False)
    model.config.boundary_token_ids = list(range(3, 16))
    written = model.generate(ids("ab<c"), max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert torch.equal(written[0, 4:], model(written).logits[0, 3:-1].argmax(dim=-1))


@pytest.mark.parametrize("name", ["static", "offloaded", "quantized"])
def test_other_caches_are_refused(step_model, ids, name):
    with pytest.raises(ValueError, match=f"cache_implementation='{name}': StepReasoner has its own cache"):
        step_model().generate(ids("ab<"), max_new_tokens=2, cache_implementation=name)


def test_a_cache_of_another_class_is_refused(step_model, ids):
    with pytest.raises(ValueError, match="a DynamicCache, but StepReasoner needs its own StepReasonerCache"):
        step_model()(ids("ab<"), past_key_values=DynamicCache())
    with pytest.raises(ValueError, match="a DynamicCache, but StepReasoner needs its own StepReasonerCache"):
        step_model().generate(ids("ab<"), past_key_values=DynamicCache(), max_new_tokens=2)


@pytest.mark.parametrize("mode", ["assistant", "prompt lookup", "chunks"])
def test_assisted_generation_is_refused(step_model, ids, mode):
    model = step_model()
    settings = {
        "assistant": {"assistant_model": model},
        "prompt lookup": {"prompt_lookup_num_tokens": 2},
        "chunks": {"prefill_chunk_size": 2},
    }[mode]
    with pytest.raises(ValueError, match="assisted generation and prefill_chunk_size are not available"):
        model.generate(ids("ab<cd"), max_new_tokens=4, do_sample=False, **settings)


def test_what_a_cache_cannot_hold_is_refused(step_model, ids):
    model = step_model()
    cache = model(ids("ab<"), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="cannot be cut back"):
        cache.crop(2)
    with pytest.raises(ValueError, match="needs input_ids: the ids say where a piece ends"):
        model(inputs_embeds=torch.zeros(1, 1, 32).double(), step_ids=torch.ones(1, 1).long(), past_key_values=cache)
    packed = {"input_ids": ids("ab<cd<"), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}
    with pytest.raises(ValueError, match="one example a row"):
        model(**packed, past_key_values=StepReasonerCache(model.config))
    assert model(**packed, use_cache=True).past_key_values is None
