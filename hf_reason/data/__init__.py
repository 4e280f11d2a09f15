"""Data: from raw distilled traces to clean records."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DOMAINS": ".record",
        "DataError": ".record",
        "RawTrace": ".record",
        "make_record": ".record",
        "read_records": ".sources",
        "read_traces": ".sources",
        "FilterConfig": ".filters",
        "prepare": ".pipeline",
        "load_cot_sft_dataset": ".load",
        "generate_word_problems": ".word_problems",
    },
)
