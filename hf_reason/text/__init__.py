"""Text and tokens: the only prompt builder, spans of steps, collation."""

from hf_reason._lazy import lazy_exports

# Not lazy: function and module have the same name, and importing the module would hide the function.
from .render import Parsed, build_prompt, parse, render, template_hash

_lazy_getattr, _, _lazy_names = lazy_exports(
    __name__,
    {
        "encode": ".spans",
        "encode_prompt": ".spans",
        "check_round_trip": ".spans",
        "split_record": ".long_chains",
        "has_switch": ".modes",
        "add_thinking_switch": ".modes",
        "CoTCollator": ".collator",
        "align_generation_config": ".tokens",
        "end_token_id": ".tokens",
        "ensure_pad_token": ".tokens",
        "fit_embeddings": ".tokens",
        "load_instructions": ".instructions",
        "saved_instructions": ".instructions",
        "train_tokenizer": ".tokenizer_training",
    },
)
__getattr__ = _lazy_getattr
__all__ = ["Parsed", "build_prompt", "parse", "render", "template_hash", *_lazy_names]
