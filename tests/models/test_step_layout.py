"""Where the chain begins and which piece a token belongs to: worked examples, written as text over text."""

import pytest
import torch

from hf_reason.models.step_reasoner.layout_step_reasoner import PADDING, lay_out


def _mask(text: str) -> torch.Tensor:
    return torch.tensor([[character != "_" for character in text]]).long()


def _positions(text: str) -> torch.Tensor:
    return (_mask(text).cumsum(dim=1) - 1).clamp(min=0)


@pytest.fixture
def divide(ids):
    """Lay out one row; `_` is masked. Keywords as `lay_out` takes them."""

    def run(
        text: str, positions=None, step_ids=None, prompt_length=None, triggers="", max_piece_length=0, plan_slots=0
    ):
        return lay_out(
            ids(text),
            _positions(text) if positions is None else torch.tensor([positions]),
            _mask(text) if "_" in text else None,
            None if step_ids is None else torch.tensor([step_ids]),
            prompt_length,
            thought_start=ids("<")[0].tolist(),
            ends=ids("." + triggers)[0].tolist(),
            max_piece_length=max_piece_length,
            plan_slots=plan_slots,
        )

    return run


@pytest.fixture
def drawn(divide):
    """The pieces of a row as text: the number of the piece under each token of the chain stream; else `-`.

    Of the stream `asks`: the number of the piece whose token it predicts.
    """

    def draw(text: str, stream="chain", **keywords) -> str:
        chain = getattr(divide(text, **keywords), stream)
        row = ["-"] * len(text)
        for index, rank, valid in zip(chain.index[0], chain.rank[0], chain.valid[0], strict=True):
            if valid:
                assert rank % 2 == 0
                row[index] = str(int(rank) // 2)
        return "".join(row)

    return draw


@pytest.mark.parametrize(
    ("text", "pieces", "keywords"),
    [
        # the last token of the prompt belongs to the first piece; an end belongs to the piece that it ends
        ("abc<de.fg.h", "--111112223", {}),
        ("abc<de.fg.", "--11111222", {}),
        # the same token in the prompt ends nothing, not even as the prompt's last token
        ("a.b.<d.e", "---11112", {}),
        # a second start token is a token like others
        ("ab<c.<d.e", "-11112223", {}),
        ("ab<..c", "-11123", {}),
        # triggers cut inside a step
        ("ab<c=d=e.f=g.", "-111122334455", {"triggers": "="}),
        ("ab<c=d.", "-111111", {}),
        # no piece is longer than three tokens, the last token of the prompt counted in the first
        ("ab<cdefg.hi", "-1112223344", {"max_piece_length": 3}),
        ("ab<c.def.g", "-111233345", {"max_piece_length": 3}),
        ("ab<cd", "-1122", {"max_piece_length": 2}),
        # an empty prompt: the start token opens the first piece
        ("<de.fg.h", "11112223", {}),
        (".", "1", {}),
        # the first token of the stream never ends a piece, in the prompt or not
        ("a.<b.c", "-11112", {}),
        ("..a", "112", {"prompt_length": 0}),
        ("<ab.c", "11112", {"triggers": "<"}),
        # without a start token all is prompt; its last token predicts what follows
        ("abc.de", "-----1", {}),
        ("a", "1", {}),
        # ... unless the caller says where the prompt ends
        ("abc.de", "--1122", {"prompt_length": 3}),
        ("abcdef", "111111", {"prompt_length": 1}),
        ("abcdef", "111111", {"prompt_length": 0}),
        # the start token counts where it comes before that
        ("a<bc.de", "1111122", {"prompt_length": 4}),
        # padding on either side
        ("__ab<c.d", "---11112", {}),
        ("ab<c.d__", "-11112--", {}),
        ("__abc", "----1", {}),
        ("ab__", "-1--", {}),
        ("__<a.b", "--1112", {}),
    ],
)
def test_pieces_of_a_row(drawn, text, pieces, keywords):
    assert drawn(text, **keywords) == pieces


@pytest.mark.parametrize(
    ("text", "pieces", "keywords"),
    [
        # the last token of a piece asks for the first of the next, also where the text ends
        ("abc<de.fg.h", "--111122233", {}),
        ("abc<de.fg.", "--11112223", {}),
        ("ab<..c", "-11233", {}),
        ("ab<c=d=e.f=g.", "-111223344556", {"triggers": "="}),
        ("ab<cdefg.hi", "-1122233444", {"max_piece_length": 3}),
        ("__ab<c.d__", "---11122--", {}),
        ("abc.", "---1", {}),
        (".", "1", {}),
        # given steps end where the number changes, and not at the end of the text
        ("abcdefg", "--11222", {"step_ids": [0, 0, 0, 1, 1, 2, 2]}),
        ("abcd__", "-122--", {"step_ids": [0, 0, 1, 2, 0, 0]}),
        # packed: nothing asks across examples
        ("ab<c.dab<c.", "-11122-3334", {"positions": [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]}),
        ("abcab", "12233", {"positions": [0, 1, 2, 0, 1], "step_ids": [0, 1, 2, 0, 1]}),
    ],
)
def test_pieces_that_are_asked_for(drawn, text, pieces, keywords):
    assert drawn(text, stream="asks", **keywords) == pieces


@pytest.mark.parametrize(
    ("text", "pieces", "steps", "keywords"),
    [
        ("abcdefg", "--11122", [0, 0, 0, 1, 1, 2, 2], {}),
        # only whether the number changes matters, not by how much
        ("abcdefg", "--11122", [0, 0, 0, 3, 3, 7, 7], {}),
        # given steps win over the tokens that the config names
        ("a<b.c.d", "--11112", [0, 0, 0, 1, 1, 1, 2], {}),
        ("abcdefg", "--11233", [0, 0, 0, 1, 1, 2, 2], {"max_piece_length": 2}),
        ("abc", "112", [1, 1, 2], {}),
        ("__abcd", "---112", [0, 0, 0, 0, 1, 2], {}),
        # once begun, a chain does not turn back into a prompt, which everything would see
        ("abcde", "-1123", [0, 0, 1, 0, 1], {}),
    ],
)
def test_pieces_from_given_steps(drawn, text, pieces, steps, keywords):
    assert drawn(text, step_ids=steps, **keywords) == pieces


@pytest.mark.parametrize(
    ("text", "positions", "pieces", "keywords"),
    [
        ("ab<c.dab<c.d", [0, 1, 2, 3, 4, 5] * 2, "-11112-33334", {}),
        # the second example has no prompt: its piece begins with it, whatever the first one ended with
        ("ab<c<c.d", [0, 1, 2, 3, 0, 1, 2, 3], "-1112223", {}),
        ("ab<<cdef", [0, 1, 2, 0, 1, 2, 3, 4], "-1122233", {"max_piece_length": 3}),
        ("abcde", [0, 1, 2, 0, 1], "11122", {"step_ids": [0, 1, 1, 1, 1]}),
        # the first example is a prompt only; the second begins at once
        ("ab<c", [0, 1, 0, 1], "-122", {}),
        # a start token in the first example opens no chain in the second
        ("a<babc", [0, 1, 2, 0, 1, 2], "111--2", {}),
        ("ab<c__", [0, 1, 0, 1, 0, 0], "-122--", {}),
    ],
)
def test_packed_examples_are_divided_apart(drawn, divide, text, positions, pieces, keywords):
    assert drawn(text, positions=positions, **keywords) == pieces
    assert divide(text, positions=positions, **keywords).packed


def test_every_stream_of_a_worked_example(divide):
    layout = divide("__ab<c.d", plan_slots=2)
    assert layout.prompt.document.tolist() == [[layout.chain.document[0, 0].item()] * 2]
    assert layout.prompt.index.tolist() == [[2, 3]]
    assert layout.prompt.position.tolist() == [[0, 1]]
    assert layout.prompt.rank.tolist() == [[0, 0]]
    assert layout.chain.index.tolist() == [[3, 4, 5, 6, 7]]
    assert layout.chain.position.tolist() == [[1, 2, 3, 4, 5]]
    assert layout.chain.rank.tolist() == [[2, 2, 2, 2, 4]]
    # the same tokens; the end of the first piece asks for the second
    for name in ("document", "position", "index"):
        assert torch.equal(getattr(layout.asks, name), getattr(layout.chain, name))
    assert layout.asks.rank.tolist() == [[2, 2, 2, 4, 4]]
    # two slots a piece, at the position of its first token, known half a step before it: from the token on that leads
    # to the piece
    assert layout.slots.index.tolist() == [[3, 3, 6, 6]]
    assert layout.slots.position.tolist() == [[1, 1, 5, 5]]
    assert layout.slots.rank.tolist() == [[1, 1, 3, 3]]
    assert layout.slots.valid.all()
    assert layout.plain_prompt
    assert not layout.packed


def test_slots_open_where_a_piece_ends_with_the_text(divide):
    layout = divide("ab<c.", plan_slots=1)
    assert layout.slots.position.tolist() == [[1, 5]]
    assert layout.slots.rank.tolist() == [[1, 3]]
    # packed, the slot keeps to its own example
    layout = divide("ab<c.d<e", positions=[0, 1, 2, 3, 4, 0, 1, 2], plan_slots=1)
    assert layout.slots.document.tolist() == [[0, 0, 1]]
    assert layout.slots.position.tolist() == [[1, 5, 0]]
    assert layout.slots.rank.tolist() == [[1, 3, 3]]


def test_packed_streams(divide):
    layout = divide("a<b.cxy<z", positions=[0, 1, 2, 3, 4, 0, 1, 2, 3], plan_slots=1)
    assert layout.prompt.document.tolist() == [[0, 1, 1]]
    assert layout.prompt.position.tolist() == [[0, 0, 1]]
    assert layout.chain.document.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert layout.chain.position.tolist() == [[0, 1, 2, 3, 4, 1, 2, 3]]
    assert layout.chain.rank.tolist() == [[2, 2, 2, 2, 4, 6, 6, 6]]
    assert layout.slots.document.tolist() == [[0, 0, 1]]
    assert layout.slots.rank.tolist() == [[1, 3, 5]]
    assert layout.packed
    assert not layout.plain_prompt


def test_rows_of_a_batch_are_gathered_to_the_left(ids):
    texts = ("__a<b.", "cde<f.", "<abc__")
    mask = torch.cat([_mask(text) for text in texts])
    layout = lay_out(
        ids(*texts),
        torch.cat([_positions(text) for text in texts]),
        mask,
        None,
        thought_start=ids("<")[0].tolist(),
        ends=ids(".")[0].tolist(),
        max_piece_length=0,
        plan_slots=0,
    )
    assert layout.prompt.valid.tolist() == [[True, False, False], [True, True, True], [False, False, False]]
    assert layout.prompt.index[0, 0] == 2
    assert layout.chain.valid.tolist() == [[True] * 4, [True] * 4, [True] * 4]
    assert layout.chain.index.tolist() == [[2, 3, 4, 5], [2, 3, 4, 5], [0, 1, 2, 3]]
    assert layout.asks.rank.tolist() == [[2, 2, 2, 4]] * 2 + [[2] * 4]
    assert layout.slots.document.shape == (3, 0)
    assert not layout.plain_prompt
    assert (layout.prompt.document[2] == PADDING).all()
