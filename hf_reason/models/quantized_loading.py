"""Loading of checkpoints that may be quantised: what they need, said in one error, and no banner of gptqmodel.

auto-gptq's older checkpoints load too: their settings are in `quantize_config.json` alone, which transformers does not
read (it would make the weights up), and their weights in a file of auto-gptq's own name.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .auto_class import auto_class

_EXTRAS = {"gptq": ("gptq", ("gptqmodel", "optimum")), "bitsandbytes": ("bnb", ("bitsandbytes",))}
SETTINGS_FILE = "quantize_config.json"


class MissingExtraError(ImportError, ValueError):
    """A package of an extra is not installed."""


def load_causal_lm(name: str | os.PathLike[str], *, images: bool = False, **options: Any) -> Any:
    """`AutoModelForCausalLM.from_pretrained`, also of quantised checkpoints of any age and models with vision.

    Args:
        name: Folder or Hub name.
        images: Whether it is to read images.
        **options: For `from_pretrained`.

    Raises:
        MissingExtraError: naming the extra that the checkpoint needs.
    """
    try:
        return _loaded(name, auto_class(name, images, options), options)
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        # a config may ask for packages by itself: kernels of its attention, methods of quantisation
        what = " ".join(str(error).split())
        raise MissingExtraError(f"{name} asks for a package that is not installed: {what[:300]}") from error


def _loaded(name: str | os.PathLike[str], kind: Any, options: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    hub = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    found = None if "config" in options else quantization_settings(name, options.get("revision"))
    if found is None:
        return kind.from_pretrained(name, **options)
    check_extra(found, name)
    if found.get("quant_method") != "gptq" or "quantization_config" in options:
        return kind.from_pretrained(name, **options)
    config = AutoConfig.from_pretrained(name, **hub)
    config.quantization_config = found
    weights = _weights_of_own_name(name)
    if weights is not None:
        config.transformers_weights = weights
    with quiet_gptqmodel():
        return kind.from_pretrained(name, config=config, **options)


def quantization_settings(name: str | os.PathLike[str], revision: str | None = None) -> dict[str, Any] | None:
    """The `quantization_config` of a checkpoint, in the form that transformers reads; `None` if it is not quantised.

    Settings of GPTQ are completed: auto-gptq's own file is read where `config.json` says nothing, and the layers that
    are quantised are found by the names of the weights.
    """
    from transformers import PretrainedConfig
    from transformers.utils import cached_file

    try:
        config, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    except (OSError, ValueError):
        return None  # from_pretrained says what is wrong
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not isinstance(found, Mapping):
        path = cached_file(
            name,
            SETTINGS_FILE,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is None or not config:
            return None
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"bits", "group_size"} <= found.keys() or found.get("quant_method", "gptq") != "gptq":
            return None
    settings = dict(found)
    if settings.get("quant_method") is None and {"bits", "group_size"} <= settings.keys():
        settings["quant_method"] = "gptq"
    return _completed(settings, name) if settings.get("quant_method") == "gptq" else settings


def _completed(settings: dict[str, Any], name: str | os.PathLike[str]) -> dict[str, Any]:
    if settings.get("desc_act"):
        settings["act_group_aware"] = False  # transformers says so itself, in a warning
    if settings.get("backend") in (None, "auto"):
        settings |= named_kernel(int(settings["bits"]), int(settings["group_size"]), _widths(name, settings["bits"]))
    if settings.get("block_name_to_quantize") is None:
        stacks = {_stack_of(key) for key in weight_names(name) if key.endswith(".qweight")} - {None}
        if stacks:
            common = os.path.commonprefix(sorted(map(str, stacks)))
            settings["block_name_to_quantize"] = common if len(stacks) == 1 else common.rpartition(".")[0]
    return settings


def named_kernel(bits: int, group_size: int, widths: Iterable[int]) -> dict[str, str]:
    """The setting that names a kernel, where the one that gptqmodel chooses for bfloat16 on a CPU fails.

    Torch's product of packed weights has 4 bits, groups of 32 and more, and no group that is not full.

    Args:
        bits: Of a weight.
        group_size: Weights with a scale together; -1: a row.
        widths: Numbers of inputs of the modules.
    """
    fits = group_size != 16 and not any(width % group_size for width in widths)
    return {} if bits != 4 or fits else {"backend": "gptq_torch"}


def _widths(folder: str | os.PathLike[str], bits: int) -> set[int]:
    """Numbers of inputs of the packed modules in the safetensors files of a folder; none for a Hub name."""
    from safetensors import safe_open

    found: set[int] = set()
    for path in Path(folder).glob("*.safetensors") if os.path.isdir(folder) else []:
        with contextlib.suppress(Exception), safe_open(path, framework="pt") as file:  # from_pretrained names it
            packed = [key for key in file.keys() if key.endswith(".qweight")]  # noqa: SIM118 (no mapping)
            found |= {file.get_slice(key).get_shape()[0] * 32 // bits for key in packed}
    return found


def _stack_of(key: str) -> str | None:
    """`model.layers` of `model.layers.3.mlp.up_proj.qweight`: up to the first number."""
    parts = key.split(".")
    return next((".".join(parts[:place]) for place, part in enumerate(parts) if part.isdigit()), None)


def weight_names(folder: str | os.PathLike[str], files: str = "*.safetensors") -> list[str]:
    """The names of the tensors in the safetensors files of a folder; none for a Hub name."""
    from safetensors import safe_open

    names: list[str] = []
    for path in sorted(Path(folder).glob(files)) if os.path.isdir(folder) else []:
        with contextlib.suppress(Exception), safe_open(path, framework="pt") as file:  # from_pretrained names it
            names += file.keys()
    return names


def _weights_of_own_name(folder: str | os.PathLike[str]) -> str | None:
    """`gptq_model-4bit-128g.safetensors` of auto-gptq; `None` if the weights have the name that transformers knows."""
    if not os.path.isdir(folder) or Path(folder, "model.safetensors").is_file():
        return None
    files = sorted(path.name for path in Path(folder).glob("gptq_model*.safetensors"))
    return files[0] if len(files) == 1 else None


def check_extra(settings: Mapping[str, Any], name: str | os.PathLike[str]) -> None:
    """Refuse a quantised checkpoint whose packages are not installed.

    Raises:
        MissingExtraError: naming the packages and the extra.
    """
    method = settings.get("quant_method")
    extra, packages = _EXTRAS.get(str(getattr(method, "value", method)), ("", ()))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"{name} is quantised ({extra}), and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            f"installed: pip install 'hf_reason[{extra}]'."
        )


@contextlib.contextmanager
def quiet_gptqmodel() -> Iterator[None]:
    """gptqmodel imported for this machine, without its banner, its tables and its notes on the terminal.

    Raises:
        MissingExtraError: naming the extra.
    """
    # it runs one thread a core for each module, and crashes where threads and cores do not match
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(min(os.cpu_count() or 1, 2)))
    with contextlib.redirect_stdout(io.StringIO()):
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)  # kernels of other packages that this machine has not
        try:
            import gptqmodel  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"GPTQ needs the extra gptq: pip install 'hf_reason[gptq]' ({' '.join(str(error).split())[:200]})."
            ) from error
        finally:
            logging.disable(disabled)
        yield
