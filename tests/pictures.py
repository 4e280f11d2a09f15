"""Pictures, and tiny vision-language models with their processors, that several tests share. Nothing is downloaded."""

import io
from typing import Any

from tiny import TINY_SIZES

MARKS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<image>"]
# Idefics cuts a large picture into rows and columns, which it names.
_TILES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
_TILES += ["<fake_token_around_image>", "<global-img>"]
# As Qwen2-VL's: a message is a text or a list of parts.
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As LLaVA's: a message is a list of parts.
LLAVA = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Idefics': what follows the role depends on whether an image comes first.
IDEFICS = (
    "{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:{% else %}: "
    "{% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_SQUARE = {**_VISION, "image_size": 28, "patch_size": 14}
_QWEN = {"depth": 1, "hidden_size": 16, "num_heads": 2, "patch_size": 14}
_MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}}
# Vision part, text part.
_PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llava": ({**_SQUARE, "model_type": "clip_vision_model", "projection_dim": 16}, {"model_type": "llama"}),
    "qwen2_vl": ({**_QWEN, "embed_dim": 16, "mlp_ratio": 2}, _MROPE),
    "qwen2_5_vl": ({**_QWEN, "intermediate_size": 32, "out_hidden_size": 16, "fullatt_block_indexes": [0]}, _MROPE),
    "idefics3": ({**_SQUARE, "image_size": 28}, {"model_type": "llama"}),
}


def picture(seed: int = 0, size: tuple[int, int] = (56, 56)) -> Any:
    """A picture of noise."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def png(seed: int = 0, size: tuple[int, int] = (56, 56)) -> bytes:
    """The same as a file."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "PNG")
    return buffer.getvalue()


def with_marks(tokenizer: Any) -> Any:
    """The tokenizer with the marks of images."""
    tokenizer.add_special_tokens({"additional_special_tokens": [*MARKS, *_TILES]})
    return tokenizer


def tiny_vision_model(kind: str, tokenizer: Any, **text: Any) -> Any:
    """A model of two layers and width 16 whose vision part has one layer, for a tokenizer `with_marks`."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    vision, language = _PARTS[kind]
    ids = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(MARKS), strict=True))
    sizes = {**TINY_SIZES, "num_key_value_heads": 1, "vocab_size": len(tokenizer), "bos_token_id": None}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    mark = ids["<|image_pad|>" if kind.startswith("qwen") else "<image>"]
    config = AutoConfig.for_model(
        kind,
        vision_config=vision,
        text_config={**sizes, **ends, **language, **text},
        image_token_id=mark,
        image_token_index=mark,
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        vision_feature_layer=-1,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config)


def tiny_processor(kind: str, tokenizer: Any, template: str | None = None) -> Any:
    """The processor of such a model. Qwen's is without videos, for which it would need torchvision."""
    if kind == "idefics3":
        from transformers import Idefics3ImageProcessor, Idefics3Processor

        tiles = Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
        return Idefics3Processor(tiles, tokenizer, image_seq_len=1, chat_template=template or IDEFICS)
    if not kind.startswith("qwen"):
        from transformers import CLIPImageProcessor, LlavaProcessor

        return LlavaProcessor(
            CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
            tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=template or LLAVA,
        )
    from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class StillQwen2VLProcessor(Qwen2VLProcessor):
        """Qwen2-VL's processor of images alone."""

        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any):
            for name, mark in (("image", "<|image_pad|>"), ("video", "<|video_pad|>")):
                setattr(self, f"{name}_token", mark)
                setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(mark))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 16, patch_size=14, merge_size=2)
    return StillQwen2VLProcessor(images, tokenizer, chat_template=template or QWEN)
