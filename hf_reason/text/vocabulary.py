"""Whether two tokenizers give every id the same meaning, which token-level distillation rests on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "问题:小明有12个苹果,又买来3.5千克。So f(x) = 2x^2 + 1\n\n步骤1:3+4=7\n因此,答案是 7 。"
_INSTEAD = (
    "Distillation compares the two distributions id by id and needs one vocabulary. Use a teacher of the student's "
    "own family, or train the student on text that the teacher writes (sequence-level distillation: its traces "
    "through hf-reason prepare and hf-reason sft), or align the two vocabularies by text with TRL's GOLD "
    "(trl.experimental.gold)."
)


def shared_vocabulary(student: "PreTrainedTokenizerBase", teacher: "PreTrainedTokenizerBase", *rows: int) -> int:
    """The number of ids that mean the same to both tokenizers, and exist in every head.

    Heads are often padded beyond the tokenizer (151,936 or 152,064 rows for one Qwen vocabulary); the ids
    up to the tokenizers' last one are shared, the padding is not. A pad token that one side has appended does not
    count: it is never read and never predicted.

    Args:
        student: The tokenizer that encodes the data.
        teacher: The teacher's.
        *rows: Rows of the embeddings or heads.

    Returns:
        The ids below it are shared.

    Raises:
        ValueError: if an id means different tokens, if a token is known to one side only, or if the two split a
            sample text differently. The message names ids and says what to do instead.
    """
    ours, theirs = _map(student, teacher), _map(teacher, student)
    if ours != theirs:
        raise ValueError(f"The student's tokenizer is not the teacher's: {_difference(ours, theirs)} {_INSTEAD}")
    split = [tokenizer(_PROBE, add_special_tokens=False)["input_ids"] for tokenizer in (student, teacher)]
    if split[0] != split[1]:
        raise ValueError(
            f"The student's tokenizer has the teacher's vocabulary but splits text differently ({len(split[0])} and "
            f"{len(split[1])} tokens for a sample): its merges or its pre-tokenizer differ. {_INSTEAD}"
        )
    shared = max(ours.values()) + 1
    if any(count < shared for count in rows):
        raise ValueError(
            f"The tokenizers have ids up to {shared - 1}, a model has only {min(rows)} rows in its head: that model "
            "belongs to another tokenizer."
        )
    return shared


def _map(tokenizer: "PreTrainedTokenizerBase", other: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Token to id, without a pad token that was appended to this vocabulary and not to the other."""
    vocabulary = dict(tokenizer.get_vocab())
    pad = tokenizer.pad_token
    if pad in vocabulary and vocabulary[pad] == max(vocabulary.values()) and pad not in other.get_vocab():
        del vocabulary[pad]
    return vocabulary


def _difference(ours: dict[str, int], theirs: dict[str, int]) -> str:
    names = [{number: token for token, number in vocabulary.items()} for vocabulary in (ours, theirs)]
    ids = sorted(
        number for number in names[0].keys() | names[1].keys() if names[0].get(number) != names[1].get(number)
    )
    shown = "; ".join(
        f"id {number} is {names[0].get(number)!r} to the student and {names[1].get(number)!r} to the teacher"
        for number in ids[:3]
    )
    fraction = len(ids) / max(len(ours), len(theirs))
    few = "only some (special) ids differ, the most dangerous case"
    what = few if fraction < 0.01 else "they are different ones"
    return f"{len(ids)} of {max(len(ours), len(theirs))} ids differ ({shown}); {what}."
