"""Generation: batches of token ids, and chains of thought in two stages with a budget for each."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CoTOutput": ".cot",
        "Vote": ".voting",
        "generate_cot": ".cot",
        "generate_ids": ".batching",
        "generation_config": ".settings",
    },
)
