"""Data: from raw distilled traces to clean records."""

from hf_reason._lazy import lazy_exports

# Not lazy: the function shares its name with its package, and importing the package would hide it.
from .prepare import prepare

_lazy_getattr, _, _lazy_names = lazy_exports(
    __name__,
    {
        "DOMAINS": ".record",
        "DataError": ".record",
        "RawTrace": ".record",
        "make_record": ".record",
        "read_records": ".read.sources",
        "read_traces": ".read.sources",
        "FilterConfig": ".clean.filters",
        "load_cot_sft_dataset": ".load",
        "generate_word_problems": ".synthetic.word_problems",
    },
)
__getattr__ = _lazy_getattr
__all__ = ["prepare", *_lazy_names]
