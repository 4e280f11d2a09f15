"""Loading a teacher model, and preparing it beside the student under DDP, DeepSpeed or FSDP."""

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import TeacherError

_PICKLED = (
    "pickled weights alone, which could run any code as they are loaded. If you trust them, convert them once: "
    "transformers.AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) writes safetensors."
)

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def load_teacher_model(
    name: str, init_kwargs: Mapping[str, Any] | None = None, trust_remote_code: bool = False
) -> "PreTrainedModel":
    """A causal language model by name, in the dtype of its files unless `init_kwargs` says otherwise.

    Args:
        name: A folder or a name on the Hub; safetensors only.
        init_kwargs: For `from_pretrained`; `dtype` may be a name, `load_in_4bit` and `load_in_8bit` are short for
            bitsandbytes' NF4 and int8.
        trust_remote_code: Whether code from the Hub may run.

    Raises:
        TeacherError: if it cannot be loaded.
    """
    import torch
    from transformers import BitsAndBytesConfig

    from hf_reason.models import with_saved_loar
    from hf_reason.models.adapter_loading import adapter_place, load_adapted
    from hf_reason.models.adapter_merging import merge_adapter
    from hf_reason.models.peft_adapters import AdapterError
    from hf_reason.models.quantized_loading import MissingExtraError, load_causal_lm
    from hf_reason.models.weight_files import DamagedWeightsError, pickled_alone, readable_weights

    options: dict[str, Any] = {"dtype": "auto", "use_safetensors": True, "trust_remote_code": trust_remote_code}
    options |= dict(init_kwargs or {})
    if isinstance(options["dtype"], str) and options["dtype"] != "auto":
        options["dtype"] = getattr(torch, options["dtype"])
    four, eight = options.pop("load_in_4bit", False), options.pop("load_in_8bit", False)
    if four or eight:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise TeacherError("A teacher in 4 or 8 bit needs bitsandbytes: pip install 'hf_reason[bnb]'.")
        compute = options["dtype"] if isinstance(options["dtype"], torch.dtype) else None
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=four, load_in_8bit=eight, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )

    def load(place: str) -> Any:
        model = load_causal_lm(place, **options)
        return with_saved_loar(model, name, revision)

    revision = options.get("revision")
    if options["use_safetensors"] and (pickle := pickled_alone(name)):
        raise TeacherError(f"The teacher {name!r} has in {pickle} {_PICKLED}")
    try:
        with readable_weights(name):
            adapter = adapter_place(name, revision)
            if adapter is None:
                return load(name)  # type: ignore[no-any-return]
            model = load_adapted(adapter, load, revision=options.pop("revision", None))
            # quantised weights would be rounded again
            return model if four or eight else merge_adapter(model)  # type: ignore[no-any-return]
    except (OSError, AdapterError, DamagedWeightsError, MissingExtraError) as error:
        reason = " ".join(str(error).split())
        if "file named model.safetensors" in reason:  # on the Hub
            reason += f" It has no weights, or {_PICKLED}"
        raise TeacherError(f"The teacher {name!r} cannot be loaded: {reason}") from error


def prepare_teacher_model(model: "PreTrainedModel", accelerator: "Accelerator") -> Any:
    """The teacher without gradients, on its device and, where the student is sharded, sharded on its own.

    A quantised model, one with a device map, and one that is on an accelerator already stay where they are.
    """
    from accelerate.utils import DistributedType

    model.requires_grad_(False).eval()
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from trl.models import prepare_deepspeed

        # not through accelerator.prepare, which would tie it to the student's optimizer (and fails under ZeRO-3)
        return prepare_deepspeed(model, accelerator)
    if accelerator.distributed_type == DistributedType.FSDP and not _is_placed(model):
        from trl.models.utils import prepare_fsdp

        return prepare_fsdp(model, accelerator)
    return place_teacher_model(model, accelerator.device)


def place_teacher_model(model: "PreTrainedModel", device: "torch.device") -> "PreTrainedModel":
    """The teacher in evaluation mode on `device`, unless it has its place already (see `prepare_teacher_model`)."""
    model.eval()
    return model if _is_placed(model) else model.to(device)  # type: ignore[arg-type]


def _is_placed(model: "PreTrainedModel") -> bool:
    mapped = getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
    return bool(mapped) or model.device.type != "cpu"
