"""Who sees whom: the step mask of a worked example, drawn by hand; windows; attention backends and their refusals."""

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

from hf_reason.models.step_reasoner import decoding_step_reasoner as decoding
from hf_reason.models.step_reasoner import masks_step_reasoner as rules
from hf_reason.models.step_reasoner import modeling_step_reasoner as modeling
from hf_reason.models.step_reasoner import stacks_step_reasoner as stacks

# The prompt "ab", the chain "<c.de.f" in three pieces, one plan slot (1, 2, 3) a piece. b is read by the encoder, and
# again by the chain, whose first token it predicts. As a query of the decoder, the last token of a piece sees what the
# first token of the next piece sees, which it predicts. A row is a query, a column a key: # seen, . not seen.
TEXT = "ab<c.de.f"

ENCODER = """
      ab
    a ##
    b ##
"""

# prompt | chain | slots
REASONER = """
      ab|b<c.de.f|123
    b ##|####....|#..
    < ##|####....|#..
    c ##|####....|#..
    . ##|####....|#..
    d ##|#######.|##.
    e ##|#######.|##.
    . ##|#######.|##.
    f ##|########|###
    1 ##|........|#..
    2 ##|####....|##.
    3 ##|#######.|###
"""

# the memory: prompt | reasoner's chain | slots || the decoder's own states of the chain
DECODER = """
      ab|b<c.de.f|123||b<c.de.f
    b ##|........|#..||#.......
    < ##|........|#..||##......
    c ##|........|#..||###.....
    . ##|####....|##.||####....
    d ##|####....|##.||#####...
    e ##|####....|##.||######..
    . ##|#######.|###||#######.
    f ##|#######.|###||########
"""


def _drawing(text: str) -> torch.Tensor:
    rows = [line.split(maxsplit=1)[1].replace("|", "") for line in text.strip().splitlines()[1:]]
    return torch.tensor([[character == "#" for character in row] for row in rows])


@pytest.fixture
def masks(monkeypatch):
    """The masks that a forward hands to attention, in the order of their making: [batch, 1, queries, keys]."""
    made = []

    def recording(*args):
        made.append(rules.make_mask(*args))
        return made[-1]

    for module in (stacks, decoding):
        monkeypatch.setattr(module, "make_mask", recording)
    return made


def test_the_step_mask_of_a_worked_example(step_model, ids, masks):
    model = step_model(plan_slots=1)
    # behind left padding, so that the encoder needs its mask
    tokens = ids("_" + TEXT, "z" + TEXT)
    model(tokens, attention_mask=(tokens != 0).long())
    encoder, reasoner, decoder = (mask[0, 0] for mask in masks)
    # three prompt tokens in the other row, so the third column is padding
    assert torch.equal(encoder[:2, :2], _drawing(ENCODER))
    assert not encoder[:2, 2].any()
    kept = [column for column in range(reasoner.shape[1]) if column != 2]
    assert torch.equal(reasoner[:, kept], _drawing(REASONER))
    kept = [column for column in range(decoder.shape[1]) if column != 2]
    assert torch.equal(decoder[:, kept], _drawing(DECODER))


def test_a_decoder_window_hides_the_older_own_states_and_nothing_else(step_model, ids, masks):
    step_model(decoder_window=2)(ids("a<bc.d"))
    expected = """
          a|a<bc.d|a<bc.d
        a #|......|#.....
        < #|......|##....
        b #|......|.##...
        c #|......|..##..
        . #|#####.|...##.
        d #|#####.|....##
    """
    assert torch.equal(masks[-1][0, 0], _drawing(expected))


def test_packed_examples_see_their_own(step_model, ids, masks):
    # "a<b." and "c<d": prompt a c; chain a<b. c<d
    step_model()(ids("a<b.c<d"), position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2]]))
    expected = """
          ac|a<b.c<d|a<b.c<d
        a #.|.......|#......
        < #.|.......|##.....
        b #.|.......|###....
        . #.|####...|####...
        c .#|.......|....#..
        < .#|.......|....##.
        d .#|.......|....###
    """
    encoder, reasoner, decoder = (mask[0, 0] for mask in masks)
    assert torch.equal(encoder, torch.eye(2, dtype=torch.bool))
    assert torch.equal(decoder, _drawing(expected))
    expected = """
          ac|a<b.c<d
        a #.|####...
        < #.|####...
        b #.|####...
        . #.|####...
        c .#|....###
        < .#|....###
        d .#|....###
    """
    assert torch.equal(reasoner, _drawing(expected))


WINDOW = """
      abcde
    a ##...
    b ###..
    c .###.
    d ..###
    e ...##
"""


def test_sliding_encoder_layers_see_a_window(step_model, ids, masks):
    kinds = ["sliding_attention", "full_attention"] + ["full_attention"] * 4
    model = step_model(layer_types=kinds, sliding_window=2)
    text = ids("abcde<f.g")
    sliding = model(text).logits
    assert sum(torch.equal(mask[0, 0], _drawing(WINDOW)) for mask in masks if mask.shape[-2:] == (5, 5)) == 1
    assert (sliding - step_model()(text).logits).abs().max() > 1e-2
    # a prompt that fits into the window is read in full
    assert torch.equal(model(ids("ab<f.g")).logits, step_model()(ids("ab<f.g")).logits)


def test_a_window_reaches_as_far_as_it_says(step_model, ids):
    # one encoder layer of window 2, nothing behind it but the decoder's view of all
    kinds = ["sliding_attention"] + ["full_attention"] * 2
    model = step_model(
        num_encoder_layers=1, num_reasoner_layers=0, num_decoder_layers=2, layer_types=kinds, sliding_window=2
    )
    embed, layer = model.model.embed_tokens, model.model.encoder[0]
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for text in ("abcde<f", "abcdz<f"):
        model(ids(text))
    assert embed.weight.isfinite().all()
    changed = (seen[0] - seen[1]).abs().amax(dim=-1)[0] > 0
    assert changed.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("fields", [{}, {"plan_slots": 2, "use_qk_norm": True, "attention_bias": False}])
@pytest.mark.parametrize("backend", ["eager", "flex_attention"])
def test_attention_backends_agree(step_model, ids, masks, backend, fields):
    model = step_model(trigger_token_ids=[4], **fields)
    tokens = ids("__ab<c=d.ef.g", "abcd<e.f=g.hi", "abc<h.ij.k___")
    mask = (tokens != 0).long()
    # not compiled: the reference implementation of flex attention, which is quick and takes float64
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = model(tokens, attention_mask=mask).logits
        written = model.generate(tokens[:2], attention_mask=mask[:2], max_new_tokens=12, do_sample=False)
        masks.clear()
        model.set_attn_implementation(backend)
        found = model(tokens, attention_mask=mask).logits
        assert all(isinstance(m, BlockMask) == (backend == "flex_attention") for m in masks)
        again = model.generate(tokens[:2], attention_mask=mask[:2], max_new_tokens=12, do_sample=False)
    assert len(masks) > 3
    # transformers' eager attention takes its softmax in float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(written, again)


@pytest.mark.slow
def test_compiled_flex_attention_agrees(step_model, ids):
    model = step_model(plan_slots=1).float()
    text = ids("abcd<e.fgh.hi")
    # torch's own code for the CPU does not compile where sizes are dynamic (it mixes up the names ks1 and ks16)
    with torch.no_grad(), torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        expected = model(text).logits
        model.set_attn_implementation("flex_attention")
        torch.testing.assert_close(model(text).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn2"])
def test_flash_attention_is_refused(step_config, step_model, name):
    with pytest.raises(ValueError, match="step mask is neither causal.*flex_attention"):
        modeling.StepReasonerForCausalLM._from_config(step_config(), attn_implementation=name)
    with pytest.raises(ValueError, match="step mask is neither causal.*flex_attention"):
        step_model().set_attn_implementation(name)


def test_a_finished_mask_is_refused(step_model, ids):
    with pytest.raises(ValueError, match=r"makes its own masks: attention_mask has to be \[batch, time\]"):
        step_model()(ids("ab<c"), attention_mask=torch.ones(1, 1, 4, 4))
