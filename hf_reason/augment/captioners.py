"""Captioners: images to descriptions, by a model in this process or behind a server."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Protocol

from hf_reason._files import digest
from hf_reason.data.images import IMAGES, ImageReference, image_digest, open_image, with_bytes
from hf_reason.text.chat import mode_options
from hf_reason.text.multimodal import image_prompt, processed, tokenizer_in
from hf_reason.traces.served import ServedWriter
from hf_reason.traces.settings import Job

from .translators import translation_in

# How a model that follows instructions is asked, in the language of the problem.
PROMPTS = {
    "zh": "请客观、完整地描述这张图片:写出其中的文字、数字、坐标轴、图例和表格内容。不要推理,不要回答问题。",
    "en": "Describe this image objectively and completely: give the text, the numbers, the axes, the legend and the "
    "tables in it. Do not reason, do not answer any question, and give nothing but the description.",
}
# What servers read; other files are sent as PNG.
_SENT = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


class Captioner(Protocol):
    """Describes.

    Attributes:
        identity: What tells its descriptions from those of another one, `model` among it. Plain values.
        failures: What was said about images that it gave up, and how often.
        is_asked: Whether it follows an instruction, and so describes in a language.
    """

    identity: dict[str, Any]
    is_asked: bool

    @property
    def failures(self) -> Mapping[str, int]: ...

    def describe(self, images: Sequence[ImageReference], languages: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        """The index of each image and its description (empty: it was cut), in any order, some at a time."""


class LocalCaptioner:
    """An image-to-text model (BLIP, GIT, ViT-GPT2) or one that chats about images (Qwen2-VL, LLaVA, Idefics).

    Args:
        model: On its device, in evaluation mode.
        processor: Its processor; with a chat template the model is asked.
        identity: What tells its weights from others.
        batch_size: Images at once.
        num_beams: Of the search; 1 is greedy.
        max_length: Longest description in tokens.
        prompt: What is asked; default: `PROMPTS`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        identity: Mapping[str, Any],
        *,
        batch_size: int = 8,
        num_beams: int = 1,
        max_length: int = 512,
        prompt: str | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.batch_size, self.prompt = batch_size, prompt
        self.options = {"num_beams": num_beams, "max_new_tokens": max_length, "do_sample": False}
        template = getattr(processor, "chat_template", None) or getattr(tokenizer_in(processor), "chat_template", None)
        self.is_asked = bool(template)
        asked = digest(prompt or "", *PROMPTS.values()) if self.is_asked else ""
        self.identity = {**identity, **self.options, "prompt": asked}
        self.failures: dict[str, int] = {}

    def describe(self, images: Sequence[ImageReference], languages: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        """See `Captioner`."""
        for start in range(0, len(images), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(images)))
            texts = self._batch([open_image(images[row]) for row in rows], [languages[row] for row in rows])
            yield list(zip(rows, texts, strict=True))

    def _batch(self, pictures: list[Any], languages: Sequence[str]) -> list[str]:
        import torch

        if self.is_asked:
            asked = [
                image_prompt(
                    self.processor,
                    self.prompt or PROMPTS[language],
                    1,
                    add_generation_prompt=True,
                    **mode_options(False),
                )
                for language in languages
            ]
            inputs: Any = processed(self.processor, asked, [[picture] for picture in pictures], "left")
        else:
            inputs = self.processor(images=pictures, return_tensors="pt")
        dtype = self.model.dtype
        moved = {
            name: value.to(self.model.device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        with torch.no_grad():
            found = self.model.generate(**moved, **self.options)
        prompt = moved.get("input_ids")
        if prompt is not None and torch.equal(found[:, : prompt.shape[1]], prompt):
            found = found[:, prompt.shape[1] :]
        ends = self.model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends])
        decoded = tokenizer_in(self.processor).batch_decode(found, skip_special_tokens=True)
        # the first token may be the end's own, where the decoder begins with it
        whole = [bool(stops & set(row[1:].tolist())) for row in found]
        return [translation_in(text) if ended else "" for text, ended in zip(decoded, whole, strict=True)]


class ServedCaptioner:
    """A model that sees, behind a server with OpenAI's API: images are sent as data URLs.

    Args:
        writer: Asks the server.
        identity: What tells its model and sampling from another one.
        seed: Of the samples, where it samples.
        prompt: What is asked; default: `PROMPTS`.
    """

    is_asked = True

    def __init__(
        self, writer: "CaptionWriter", identity: Mapping[str, Any], *, seed: int = 0, prompt: str | None = None
    ) -> None:
        self.writer, self.seed, self.prompt = writer, seed, prompt
        self.identity = {**identity, "prompts": digest(prompt or "", *PROMPTS.values()), "seed": seed}

    @property
    def failures(self) -> dict[str, int]:
        """What was said about images that were given up."""
        return self.writer.failures

    def describe(self, images: Sequence[ImageReference], languages: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        """See `Captioner`."""
        jobs = []
        for index, (image, language) in enumerate(zip(images, languages, strict=True)):
            record = {"id": str(index), "context": self.prompt or PROMPTS[language], IMAGES: [image]}
            jobs.append(Job(record, 0, int(digest(f"{self.seed}/{image_digest(image)}"), 16) & 0x7FFFFFFF))
        for rows in self.writer.write(jobs):
            yield [(int(row["id"]), translation_in(row["content"]) if row["ended"] else "") for row in rows]


class CaptionWriter(ServedWriter):
    """`ServedWriter` whose requests have the images of a job's record before its text."""

    def body(self, job: Job) -> dict[str, Any]:
        """The request for a description."""
        body = super().body(job)
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image)}} for image in job.record[IMAGES]
        ]
        parts.append({"type": "text", "text": job.record["context"]})
        return {**body, "messages": [{"role": "user", "content": parts}]}


def data_url(image: ImageReference) -> str:
    """An image as a data URL: its file as it is where servers read its format, else as PNG.

    Raises:
        ImageError: if it cannot be read.
    """
    from PIL import Image

    content = with_bytes(image)["bytes"] or b""
    try:
        with Image.open(BytesIO(content)) as opened:
            kind = _SENT.get(opened.format or "")
    except (OSError, ValueError, Image.DecompressionBombError):
        kind = None
    if kind is None:
        buffer = BytesIO()
        open_image(image).save(buffer, "PNG")
        content, kind = buffer.getvalue(), _SENT["PNG"]
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
