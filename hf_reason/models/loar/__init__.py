"""LoAR: Layer-wise Optimization with Attention Routing, an adapter on a decoder-only model."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "LoAR": ".model",
        "LoARConfig": ".configuration",
        "apply_loar": ".model",
        "calibrate_routers": ".calibration",
        "has_loar": ".files",
        "search_budgets": ".search",
        "with_saved_loar": ".model",
    },
)
