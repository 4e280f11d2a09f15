"""Prompts with images: their places in the chat template, and what a processor makes of text and images together.

A processor is whatever has a tokenizer and an image processor (`transformers.ProcessorMixin`). The text of a prompt
has one mark for each image; the processor replaces it by as many tokens as the image takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_reason.data.images import MARK, marks_in, open_image, references_in

from .chat import ChatTemplateError

# With one value a token; all other tensors of a processor belong to the images.
_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
_OF_TEXT = ("input_ids", "attention_mask")
_FIX = "Use the template that belongs to the processor."


def is_processor(reader: Any) -> bool:
    """Whether an object reads images, and not only text."""
    return getattr(reader, "image_processor", None) is not None and hasattr(reader, "tokenizer")


def tokenizer_in(reader: Any) -> Any:
    """The tokenizer of a processor, with the processor's chat template; a tokenizer as it is."""
    if not is_processor(reader):
        return reader
    tokenizer, template = reader.tokenizer, getattr(reader, "chat_template", None)
    if template and not tokenizer.chat_template:
        tokenizer.chat_template = template
    return tokenizer


def check_reads_images(reader: Any) -> None:
    """Refuse images for what reads text alone.

    Raises:
        ValueError: saying what to do instead.
    """
    if not is_processor(reader):
        raise ValueError(
            f"The record has images, and {type(reader).__name__} reads text alone. For a model without vision, "
            "describe the images in the text: hf-reason augment --captions 1 --replace. For one with vision, pass its "
            "processor (AutoProcessor) in place of the tokenizer; hf-reason sft and evaluate do so themselves."
        )


def image_prompt(processor: Any, text: str, count: int, **options: Any) -> str:
    """What the chat template writes for one user turn with images.

    Args:
        processor: With a chat template.
        text: What the turn says; `<image>` is where an image stands. Without it they stand before the text.
        count: Of the images.
        **options: For the template.

    Raises:
        ValueError: if the text has another number of places, says the model's own mark of an image, or the template
            loses a part of it.
    """
    tokenizer = tokenizer_in(processor)
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if not template:
        raise ValueError(f"{type(processor).__name__} has no chat template, which says where images stand. Set one.")
    places = marks_in(text)
    if places not in (0, count):
        raise ValueError(f"The record has {count} images, and {places} times {MARK} in its text.")
    pieces = text.split(MARK) if places else ["", text] if count == 1 else [*[""] * count, text]
    refuse_marks(processor, pieces)
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image"})
        if piece.strip():
            parts.append({"type": "text", "text": piece.strip("\n") if places else piece})
    messages: Any = [{"role": "user", "content": parts}]
    name = type(processor).__name__
    try:
        written = str(tokenizer.apply_chat_template(messages, tokenize=False, chat_template=template, **options))
    except Exception as error:  # whatever a program may raise
        raise ChatTemplateError(
            f"The chat template of {name} fails on a message with images: {error}. {_FIX}"
        ) from error
    lost = [part["text"] for part in parts if "text" in part and part["text"].strip() not in written]
    if lost:
        raise ValueError(f"The chat template of {name} leaves out the text {lost[0][:40]!r}. {_FIX}")
    marks = {mark: written.count(mark) for mark in _marks(processor)}
    if marks and count not in marks.values():
        raise ValueError(
            f"The chat template of {name} gives {count} images {max(marks.values())} places: it does not read parts "
            f"of the type 'image'. {_FIX}"
        )
    return written


def _marks(processor: Any) -> list[str]:
    """The texts that a processor replaces by an image's tokens; Gemma's template writes the first of them."""
    found = (getattr(processor, name, None) for name in ("boi_token", "image_token"))
    return [str(mark) for mark in found if mark]


def refuse_marks(processor: Any, texts: Sequence[str]) -> None:
    """Refuse texts that say the processor's mark of an image: the model would look for one more image.

    Raises:
        ValueError: naming the mark.
    """
    for mark in _marks(processor):
        if any(mark in text for text in texts):
            raise ValueError(
                f"A text of the record says {mark!r}, which is the model's own mark of an image. Take it out of the "
                "text, or give the image."
            )


def prompt_ids(processor: Any, prompt: str, record: Mapping[str, Any]) -> list[int]:
    """The tokens of a prompt with images, each image's among them.

    Raises:
        ValueError: if an image cannot be read.
    """
    found = processed(processor, [prompt], [[open_image(image) for image in references_in(record)]], "right")
    return [int(token) for token in found["input_ids"][0]]


def image_inputs(
    processor: Any,
    prompts: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    ids: Sequence[Sequence[int]],
    *,
    width: int,
    left: bool,
) -> dict[str, Any]:
    """What a model reads besides the tokens of a batch: pixels, their grid, and which tokens are an image's.

    Args:
        processor: Of the model.
        prompts: Their texts.
        records: Their images; some may have none.
        ids: The tokens of each row, which begin with its prompt.
        width: Of the batch.
        left: Whether the rows are padded in front (generation), or behind (training).

    Returns:
        Tensors by the model's names; nothing if no record has an image.

    Raises:
        ValueError: if an image cannot be read, or has other tokens than `ids` say.
    """
    import torch

    images = [[open_image(image) for image in references_in(record)] for record in records]
    if not any(images):
        return {}
    found = processed(processor, prompts, images, "right")
    mask = found["attention_mask"].bool()
    for row, (tokens, own) in enumerate(zip(ids, found["input_ids"], strict=True)):
        if (prompt := own[mask[row]].tolist()) != list(tokens[: len(prompt)]):
            raise ValueError(
                f"The images of record {row + 1} of a batch take other tokens than when the data was prepared: a file "
                "has changed. Start again."
            )
    inputs: dict[str, Any] = {}
    for name, value in found.items():
        if name in _OF_TEXT:
            continue
        if name not in _TOKEN_TYPES:
            if getattr(value, "shape", ())[:2] == mask.shape and mask.shape[1] > 1 and "mask" in name:
                raise ValueError(f"{type(processor).__name__} makes {name}, one a token, which is not known here.")
            inputs[name] = value
            continue
        inputs[name] = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, tokens in enumerate(ids):
            start = width - len(tokens) if left else 0
            types = value[row][mask[row]]
            inputs[name][row, start : start + len(types)] = types
    return inputs


class ImageInputs:
    """What `hf_reason.generation.batching.generate_ids` gives a model with vision besides the tokens of a batch.

    Args:
        processor: Of the model.
        prompts: The texts of the prompts.
        records: Their records.
        ids: Their tokens.
    """

    def __init__(
        self,
        processor: Any,
        prompts: Sequence[str],
        records: Sequence[Mapping[str, Any]],
        ids: Sequence[Sequence[int]],
    ) -> None:
        self.processor, self.prompts, self.records, self.ids = processor, prompts, records, ids

    @classmethod
    def of(
        cls, reader: Any, prompts: Sequence[str], records: Sequence[Mapping[str, Any]], ids: Sequence[Sequence[int]]
    ) -> "ImageInputs | None":
        """The inputs, or `None` if no record has an image."""
        return cls(reader, prompts, records, ids) if any(map(references_in, records)) else None

    def __call__(self, rows: Sequence[int], width: int) -> dict[str, Any]:
        """The tensors of some of the prompts, padded in front to a width."""
        return image_inputs(
            self.processor,
            [self.prompts[row] for row in rows],
            [self.records[row] for row in rows],
            [self.ids[row] for row in rows],
            width=width,
            left=True,
        )


def processed(processor: Any, prompts: Sequence[str], images: list[list[Any]], side: str) -> Mapping[str, Any]:
    """The processor's tensors; the template has written the special tokens already."""
    found: Mapping[str, Any] = processor(
        images=images if any(images) else None,
        text=list(prompts),
        padding=True,
        padding_side=side,
        add_special_tokens=False,
        return_tensors="pt",
    )
    return found
