"""Batches that keep the span columns and those that a trainer adds beside the tokens, padded or padding-free."""

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from hf_reason.data.images import IMAGES

from .multimodal import image_inputs
from .spans import ADDED_COLUMNS, SPAN_COLUMNS

# Of a row with images: references to them, and the text of its prompt. The pixels are read a batch at a time.
IMAGE_FILES, IMAGE_PROMPT = "image_files", "image_prompt"
IMAGE_COLUMNS = (IMAGE_FILES, IMAGE_PROMPT)


@dataclass
class CoTCollator(DataCollatorForLanguageModeling):
    """TRL's language-modelling collator that also carries the columns with a value for each token.

    Input: examples with `input_ids`, optional `labels`, `segment_ids`, `step_ids`, `domain_ids`, `task_ids`,
    `choice_ids` and (packed) `seq_lengths`. Output: TRL's batch plus those of them that are there, long tensors of the
    shape of `input_ids`; padding counts as prompt (0). Examples without them (a plain TRL data set) give TRL's batch.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        shape = batch["input_ids"].shape
        for column in (*SPAN_COLUMNS, *ADDED_COLUMNS):
            if column not in examples[0]:
                continue
            rows = [list(example[column]) for example in examples]
            if self.padding_free:
                rows = [[value for row in rows for value in row]]
            batch[column] = torch.zeros(shape, dtype=torch.long)
            for target, row in zip(batch[column], rows, strict=True):
                target[: len(row)] = torch.tensor(row)
        return batch


@dataclass
class ImageCollator(CoTCollator):
    """`CoTCollator` that also opens the images of its examples and adds what the model reads of them.

    Input: besides, `image_files` (references, none for an example of text) and `image_prompt`. Output: besides, the
    processor's tensors by the names that the model has (`pixel_values`, ...); token types are of the shape of
    `input_ids`. A batch of text has none of them.

    Raises:
        ValueError: if an image cannot be read, or is another one than when the example was encoded.
    """

    processor: Any = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        prompts, ids = ([example[name] for example in examples] for name in (IMAGE_PROMPT, "input_ids"))
        records = [{IMAGES: example[IMAGE_FILES]} for example in examples]
        width = batch["input_ids"].shape[1]
        return batch | image_inputs(self.processor, prompts, records, ids, width=width, left=False)
