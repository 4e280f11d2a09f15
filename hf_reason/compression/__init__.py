"""Smaller models that still reason: pruned weights, and whole groups and channels removed."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CalibrationError": ".errors",
        "Comparison": ".gate",
        "GateError": ".errors",
        "KeepZeros": ".kept_zeros",
        "MissingExtraError": ".errors",
        "PruningError": ".errors",
        "PruningResult": ".pruning",
        "QuantizationError": ".errors",
        "check_gguf": ".gguf_check",
        "compare": ".gate",
        "dequantize": ".packed",
        "input_norms": ".activations",
        "load_dequantized": ".gptq_files",
        "load_scaled": ".scale_tuning",
        "measure": ".measure_model",
        "own_chains": ".calibration",
        "prune_weights": ".pruning",
        "pruned_fraction": ".pruning",
        "quantize_bnb": ".bnb",
        "quantize_gptq": ".gptq",
        "recover": ".recovery",
        "reference_chains": ".calibration",
        "save_gptq": ".gptq",
        "save_scaled": ".scale_tuning",
        "smaller_model": ".structured",
        "text_windows": ".calibration",
        "write_gguf": ".gguf",
    },
)
