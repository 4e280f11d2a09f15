"""Data: from raw distilled traces to clean records."""

from hf_reason._lazy import lazy_exports

# Not lazy: the function has the name of its package, and importing the package later would hide it.
from .prepare import prepare

_lazy_getattr, _, _lazy_names = lazy_exports(
    __name__,
    {
        "DOMAINS": ".record",
        "DataError": ".record",
        "RawTrace": ".record",
        "Record": ".record",
        "make_record": ".record",
        "read_records": ".read.sources",
        "read_traces": ".read.sources",
        "FilterConfig": ".clean.filters",
        "PrepareConfig": ".prepare.settings",
        "read_evaluation_records": ".load",
        "load_cot_sft_dataset": ".load",
        "generate_word_problems": ".synthetic.word_problems",
    },
)
__getattr__ = _lazy_getattr
__all__ = ["prepare", *_lazy_names]
