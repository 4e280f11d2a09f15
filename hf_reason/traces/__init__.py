"""Traces of one's own: a teacher answers problems, the answers are verified, and the good ones become records."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "LocalWriter": ".local",
        "RateLimit": ".rate",
        "ServedWriter": ".served",
        "TraceSettings": ".settings",
        "generate_traces": ".generate",
        "prune_steps": ".pruning",
    },
)
