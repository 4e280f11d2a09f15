"""A captioner in this process: a model of transformers that describes images."""

import os
from typing import Any

from hf_reason.cli.augment_arguments import AugmentArguments
from hf_reason.models.auto_class import describes_images
from hf_reason.models.weight_files import readable_weights

from .images import load_processor
from .models import cannot_load, check_model_name
from .trace_teacher import fingerprint


def load_captioner(name: str, args: AugmentArguments) -> Any:
    """A model of transformers that describes images, on its device.

    Raises:
        ValueError: if it cannot be loaded, or describes no images.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    from hf_reason.augment import LocalCaptioner

    argument = "captioner_model_name_or_path"
    check_model_name(name)
    if not describes_images(name, args.trust_remote_code):
        raise ValueError(
            f"{argument}={name!r} reads no images. Give a model of transformers that turns images into text "
            "(Qwen2-VL, LLaVA, BLIP, ...), or the URL of a server with one."
        )
    processor = load_processor(name, trust_remote_code=args.trust_remote_code, argument=argument)
    try:
        with readable_weights(name):
            model = AutoModelForImageTextToText.from_pretrained(
                name, dtype=args.dtype, trust_remote_code=args.trust_remote_code
            )
        if not hasattr(processor, "tokenizer"):  # a pair of an encoder and a decoder (ViT-GPT2) has no processor
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code)
            processor = PairOfProcessors(processor, tokenizer)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load(argument, name, error)) from error
    device = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available()).device
    shown = os.path.basename(os.path.normpath(name)) if os.path.exists(name) else name
    identity = {"model": shown, "weights": fingerprint(name), "dtype": args.dtype}
    return LocalCaptioner(
        model.to(device).eval(),
        processor,
        identity,
        batch_size=args.batch_size,
        num_beams=args.num_beams,
        max_length=args.max_completion_length,
        prompt=args.caption_prompt,
    )


class PairOfProcessors:
    """An image processor and a tokenizer that were saved beside each other, without a processor."""

    chat_template = None

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def __call__(self, images: Any, return_tensors: str) -> Any:
        """The pixels."""
        return self.image_processor(images=images, return_tensors=return_tensors)
