"""What StepReasoner promises of one forward: nothing leaks, a batch is its rows, every parameter learns."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_reason.models.step_reasoner.layers_step_reasoner import StepReasonerAttention

# RMS norms round to float32, so that float64 models agree to about 1e-6; a wrong mask shows from 1e-2 on
CLOSE = {"rtol": 0, "atol": 1e-5}
SHOWS = 1e-3

SLIDING = ["sliding_attention"] * 2 + ["full_attention"] * 4
SHAPES = {
    "plain": {},
    "slots": {"plan_slots": 2},
    "triggers": {"trigger_token_ids": [4]},
    "short pieces, triggers, slots": {"trigger_token_ids": [4], "max_piece_length": 3, "plan_slots": 1},
    "decoder window": {"decoder_window": 3, "plan_slots": 1},
    "no reasoner": {"num_reasoner_layers": 0},
    "no encoder": {"num_encoder_layers": 0},
    "no encoder, slots": {"num_encoder_layers": 0, "plan_slots": 1, "num_decoder_layers": 1},
    "decoder only": {"num_encoder_layers": 0, "num_reasoner_layers": 0},
    "window, head norms, tied": {
        "layer_types": SLIDING,
        "sliding_window": 2,
        "use_qk_norm": True,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
}
every_shape = pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES.keys())


def _mask(tokens):
    return (tokens != 0).long()


@every_shape
@pytest.mark.parametrize("text", ["abc<de.f=gh.i", "___abc<d.e=fg", "abc<d.e=fg___", "<ab.c=de.f"])
def test_no_later_token_changes_earlier_logits(step_model, ids, text, fields):
    model = step_model(**fields)
    start, stop = text.index("<"), len(text.rstrip("_"))
    with torch.no_grad():
        kept = model(ids(text), attention_mask=_mask(ids(text))).logits[0]
        for place in range(start + 1, stop):
            # into and out of a letter, an end of a step, a trigger, a start token
            others = [text[:place] + new + text[place + 1 :] for new in "z.=<$" if new != text[place]]
            tokens = ids(*others)
            changed = model(tokens, attention_mask=_mask(tokens)).logits
            torch.testing.assert_close(changed[:, :place], kept[:place].expand(len(others), -1, -1), **CLOSE)
            # and it is seen at once, or this test would prove nothing
            assert ((changed[:, place] - kept[place]).abs().amax(dim=-1) > SHOWS).all()


@every_shape
def test_no_token_changes_another_packed_example_or_its_past(step_model, ids, fields):
    model = step_model(**fields)
    texts = ["ab<c.d=e.f", "ghi<jk.l", "<mn.o"]
    whole = "".join(texts)
    positions = torch.cat([torch.arange(len(text)) for text in texts])[None]
    with torch.no_grad():
        kept = model(ids(whole), position_ids=positions).logits[0]
        begin = 0
        for text in texts:
            end, start = begin + len(text), begin + text.index("<")
            for place in (p for p in range(begin, end) if p != start):
                # the prompt is read as a whole, and a start token in it would move the chain, as it should
                news, earliest = ("z.=<", place) if place > start else ("z.=", begin)
                others = ids(*(whole[:place] + new + whole[place + 1 :] for new in news))
                changed = model(others, position_ids=positions.expand(len(others), -1)).logits
                same = torch.ones(len(whole), dtype=torch.bool)
                same[earliest:end] = False
                torch.testing.assert_close(changed[:, same], kept[same].expand(len(others), -1, -1), **CLOSE)
            begin = end


@pytest.mark.parametrize("fields", [{}, {"plan_slots": 1}])
def test_logits_in_the_prompt_are_constant(step_model, ids, fields):
    model = step_model(**fields)
    logits = model(ids("abcd<e.f", "abcdefgh", "ab<defgh")).logits
    # up to the last token of the prompt, whose state predicts the chain
    assert [int((row.abs().amax(dim=-1) > 0).int().argmax()) for row in logits] == [3, 7, 1]
    assert logits[0, :3].eq(0).all()
    # a second prompt token changed: still nothing before the last one, and the last one sees it
    other = model(ids("zbcd<e.f")).logits
    assert other[0, :3].eq(0).all()
    assert (other[0, 3] - logits[0, 3]).abs().max() > SHOWS


@every_shape
def test_a_batch_equals_its_rows_padded_and_packed(step_model, ids, fields):
    model = step_model(**fields)
    texts = ["ab<c.d=e.f", "ghijk<l", "<mn.o=p.", "qrs", "t<u"]
    width = max(map(len, texts)) + 1
    with torch.no_grad():
        alone = [model(ids(text)).logits[0] for text in texts]
        for pad in (str.rjust, str.ljust):
            tokens = ids(*(pad(text, width, "_") for text in texts))
            logits = model(tokens, attention_mask=_mask(tokens)).logits
            for row, mask, expected in zip(logits, _mask(tokens).bool(), alone, strict=True):
                torch.testing.assert_close(row[mask], expected, **CLOSE)
                assert row[~mask].eq(0).all()
        positions = torch.cat([torch.arange(len(text)) for text in texts])[None]
        packed = model(ids("".join(texts)), position_ids=positions).logits[0]
    torch.testing.assert_close(packed, torch.cat(alone), **CLOSE)


def test_a_row_of_padding_does_no_harm(step_model, ids):
    model = step_model(plan_slots=1)
    tokens = ids("ab<c.d", "______")
    with torch.no_grad():
        outputs = model(tokens, attention_mask=_mask(tokens), use_cache=True)
        torch.testing.assert_close(outputs.logits[:1], model(tokens[:1]).logits, **CLOSE)
        assert outputs.logits[1].eq(0).all()
        following = model(ids("e", "e"), past_key_values=outputs.past_key_values).logits
    torch.testing.assert_close(following[0, 0], model(ids("ab<c.de")).logits[0, -1], **CLOSE)


@pytest.mark.parametrize(
    ("stack", "text", "swapped", "place"),
    # `place` in the stack's own stream: the end of the first step, and the last token of the prompt; they see the same
    # set of tokens in both texts
    [("reasoner", "ab<cd.ef", "ab<dc.ef", 4), ("encoder", "abx<cd.ef", "bax<cd.ef", 2)],
)
def test_the_order_of_tokens_counts(step_model, ids, stack, text, swapped, place):
    model, states = step_model(), []
    getattr(model.model, stack)[-1].register_forward_hook(lambda module, inputs, output: states.append(output))
    first, second = (model(ids(each)).logits for each in (text, swapped))
    assert (first[0, -1] - second[0, -1]).abs().max() > SHOWS
    assert (states[0][0, place] - states[1][0, place]).abs().max() > SHOWS


@every_shape
def test_gradient_reaches_every_parameter(step_model, ids, fields):
    model = step_model(**fields).train()
    model.gradient_checkpointing_enable()
    tokens = ids("abc<de.f=gh.i", "ab<cd=e.f____")
    labels = tokens.masked_fill(tokens == 0, -100)
    labels[:, :3] = -100
    model(tokens, attention_mask=_mask(tokens), labels=labels, use_cache=False).loss.backward()
    weak = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7]
    assert weak == []


def test_loss_is_the_cross_entropy_of_the_next_token(step_model, ids):
    model, tokens = step_model(), ids("ab<cd.e")
    labels = tokens.clone()
    labels[:, :2] = -100
    outputs = model(tokens, labels=labels)
    expected = torch.nn.functional.cross_entropy(outputs.logits[0, 1:-1], tokens[0, 2:])
    torch.testing.assert_close(outputs.loss.double(), expected, **CLOSE)
    kept = model(tokens, logits_to_keep=2).logits
    torch.testing.assert_close(kept, outputs.logits[:, -2:])


def _turned(vectors: torch.Tensor, positions: torch.Tensor, theta: float = 10000.0) -> torch.Tensor:
    """The rotary embedding, pair by pair: entry i and entry i + half turn by position / theta^(i / half)."""
    half = vectors.shape[-1] // 2
    out = torch.empty_like(vectors)
    for i in range(half):
        angle = positions.double() / theta ** (i / half)
        x, y = vectors[..., i], vectors[..., i + half]
        out[..., i] = x * angle.cos() - y * angle.sin()
        out[..., i + half] = y * angle.cos() + x * angle.sin()
    return out


@pytest.mark.parametrize("head_norms", [False, True])
def test_merged_attention_is_one_softmax_over_memory_and_own(step_config, head_norms):
    config = step_config(use_qk_norm=head_norms)
    config._attn_implementation = "sdpa"
    torch.manual_seed(1)
    attention = StepReasonerAttention(config, 0).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    states, memory = torch.randn(1, 3, 32).double(), torch.randn(1, 5, 32).double()
    sources = torch.cat([memory, states], dim=1)
    places = torch.tensor([4, 5, 6])
    source_places = torch.tensor([0, 1, 2, 3, 4, 4, 5, 6])
    visible = torch.rand(3, 8) < 0.6
    visible[:, 5:] |= torch.eye(3, dtype=torch.bool)

    frequencies = 10000.0 ** (-torch.arange(0, 8, 2).double() / 8)

    def rope(positions):
        angles = (positions[:, None] * frequencies).repeat(1, 2)[None]
        return angles.cos(), angles.sin()

    found = attention(states, sources, rope(places), rope(source_places), visible[None, None])

    def normed(vector, norm):
        return vector / (vector.pow(2).mean() + config.rms_norm_eps).sqrt() * norm.weight if head_norms else vector

    expected = torch.zeros(3, 32, dtype=torch.double)
    for query in range(3):
        heads = []
        for head in range(4):
            mine, shared = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)
            q = normed((attention.q_proj(states[0, query]))[mine], getattr(attention, "q_norm", None))
            q = _turned(q, places[query])
            scores, values = [], []
            for key in range(8):
                if not visible[query, key]:
                    continue
                k = normed(attention.k_proj(sources[0, key])[shared], getattr(attention, "k_norm", None))
                scores.append(q @ _turned(k, source_places[key]) / 8**0.5)
                values.append(attention.v_proj(sources[0, key])[shared])
            weights = torch.stack(scores).exp()
            heads.append((weights / weights.sum()) @ torch.stack(values))
        expected[query] = attention.o_proj.weight @ torch.cat(heads)
    tolerance = 1e-5 if head_norms else 1e-12  # the norms round to float32
    torch.testing.assert_close(found[0], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("fields", [{}, {"plan_slots": 2, "max_piece_length": 3}])
def test_steps_given_are_the_steps_found(step_model, ids, fields):
    model = step_model(**fields)
    tokens = ids("abc<de.fg.h", "__a<b.c.d.e")
    steps = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3], [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]])
    with torch.no_grad():
        found = model(tokens, attention_mask=_mask(tokens)).logits
        given = model(tokens, attention_mask=_mask(tokens), step_ids=steps).logits
        assert torch.equal(found, given)
        # the same from embeddings, in which no token can be found
        embeds = model.model.embed_tokens(tokens)
        outputs = model(inputs_embeds=embeds, attention_mask=_mask(tokens), step_ids=steps)
        assert torch.equal(found, outputs.logits)
        assert outputs.past_key_values is None
        steps[0, 6] = 2
        other = model(tokens, attention_mask=_mask(tokens), step_ids=steps).logits
    assert (found - other)[0].abs().max() > SHOWS
    with pytest.raises(ValueError, match="with inputs_embeds pass step_ids as well"):
        model(inputs_embeds=embeds)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_steps_given_packed(step_model, ids):
    """A step ends where the number changes, but not at an example's end, packed or alone."""
    model = step_model(plan_slots=1)
    texts, steps = ["abcdef", "ghijk", "lm"], [[0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 3], [3, 3]]
    positions = torch.cat([torch.arange(len(text)) for text in texts])[None]
    with torch.no_grad():
        packed = model(ids("".join(texts)), position_ids=positions, step_ids=torch.tensor([sum(steps, [])])).logits
        alone = [model(ids(text), step_ids=torch.tensor([row])).logits for text, row in zip(texts, steps, strict=True)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), **CLOSE)


@pytest.mark.slow
def test_compiled_equals_eager_at_two_lengths(step_model, ids):
    model = step_model(plan_slots=1)
    compiled = torch.compile(model)
    with torch.no_grad():
        for text in ("ab<cd.ef", "abc<d.ef.gh.i"):
            expected = model(ids(text), use_cache=False).logits
            torch.testing.assert_close(compiled(ids(text), use_cache=False).logits, expected, **CLOSE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 7}, "num_hidden_layers=7, but .* is 6"),
        ({"num_encoder_layers": -1}, "num_encoder_layers cannot be negative"),
        ({"max_piece_length": -1}, "max_piece_length cannot be negative"),
        ({"max_piece_length": 1}, "max_piece_length has to be 0 .* or at least 2"),
        ({"num_decoder_layers": 0}, "num_decoder_layers has to be at least 1"),
        ({"num_reasoner_layers": 0, "plan_slots": 1}, "plan_slots are states of the reasoner"),
        ({"num_key_value_heads": 3}, "num_attention_heads=4 is no multiple of num_key_value_heads=3"),
        ({"layer_types": ["full_attention"]}, "layer_types has to hold 6 entries"),
        ({"layer_types": ["full_attention"] * 5 + ["linear"]}, "layer_types"),
        ({"layer_types": ["full_attention"] * 5 + ["sliding_attention"], "sliding_window": 4}, "only encoder layers"),
        ({"layer_types": SLIDING}, "set sliding_window"),
        ({"thought_start_token_ids": [99]}, r"thought_start_token_ids: \[99\] are no ids of a vocabulary of 31"),
        ({"boundary_token_ids": [-1]}, "boundary_token_ids"),
        ({"trigger_token_ids": [31]}, "trigger_token_ids"),
    ],
)
def test_config_errors_name_the_field(step_config, fields, message):
    with pytest.raises(ValueError, match=message):
        step_config(**fields)


def test_config_survives_a_round_trip(step_config, tmp_path):
    config = step_config(plan_slots=2, trigger_token_ids=[5, 4, 5], layer_types=SLIDING, sliding_window=3)
    assert config.trigger_token_ids == [4, 5]
    config.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).to_dict() == config.to_dict()


def _word_tokenizer(*words):
    from tokenizers import Tokenizer, models

    vocabulary = {word: number for number, word in enumerate(["<unk>", "<pad>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


def test_tokens_are_found_by_the_strings_they_contain(step_config):
    tokenizer = _word_tokenizer("<think>", "a", "\n", "。\n", "\n\n", "=", "a=", "。")
    config = step_config().set_tokens(tokenizer, triggers=("=",))
    words = tokenizer.convert_ids_to_tokens
    assert words(config.thought_start_token_ids) == ["<think>"]
    assert words(config.boundary_token_ids) == ["\n", "。\n", "\n\n"]
    assert words(config.trigger_token_ids) == ["=", "a="]
    # one string is a string, not its characters; nothing asked for is nothing found
    assert words(step_config().set_tokens(tokenizer, boundaries="。\n").boundary_token_ids) == ["。\n"]
    assert step_config().set_tokens(tokenizer, triggers=()).trigger_token_ids == []


def test_tokens_of_a_byte_level_tokenizer(step_config, tokenizer):
    config = step_config(vocab_size=len(tokenizer)).set_tokens(tokenizer, triggers="=")
    text = "步骤1: 3+4=7\n步骤2: 7*2=14\n"
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ends = [text[first:last] for number, (first, last) in pairs if number in config.boundary_token_ids]
    assert len(ends) == 2
    assert all("\n" in end for end in ends)
    assert set(tokenizer("=", add_special_tokens=False)["input_ids"]) <= set(config.trigger_token_ids)


def test_tokens_that_are_missing_are_named(step_config):
    tokenizer = _word_tokenizer("<think>", "\n")
    with pytest.raises(ValueError, match="has no token '<thought>', where the chain begins"):
        step_config().set_tokens(tokenizer, thought_start="<thought>")
    with pytest.raises(ValueError, match="boundaries: no token of this tokenizer contains '#'"):
        step_config().set_tokens(tokenizer, boundaries=("\n", "#"))
    with pytest.raises(ValueError, match="triggers: no token of this tokenizer contains '='"):
        step_config().set_tokens(tokenizer, triggers="=")


@pytest.mark.parametrize("field", ["thought_start", "boundaries", "triggers"])
def test_tokens_outside_the_embedding_are_refused(step_config, field):
    words = {"thought_start": "<think>", "boundaries": "\n", "triggers": "="}
    last = words.pop(field)
    tokenizer = _word_tokenizer(*words.values(), last)
    config = step_config(vocab_size=len(tokenizer) - 1, pad_token_id=0, eos_token_id=1)
    before = config.to_dict()
    with pytest.raises(ValueError, match=r"ids up to 4, but the embedding has 4 rows.*resize_token_embeddings\(len"):
        config.set_tokens(tokenizer, triggers="=")
    assert config.to_dict() == before
    # what is not looked for may lie outside
    others = {"thought_start": "<think>", "boundaries": "\n", "triggers": "=", field: None}
    config.set_tokens(tokenizer, **others)
