"""What can go wrong in a compression. Each message says what, and what to do."""

from hf_reason.models.quantized_loading import MissingExtraError as MissingExtraError


class PruningError(ValueError):
    """A model, or a setting, that cannot be pruned."""


class QuantizationError(ValueError):
    """A model, or a setting, that cannot be quantised."""


class CalibrationError(ValueError):
    """Too few texts to calibrate on, or a file that has none."""


class GateError(ValueError):
    """The compressed model lost more than is allowed."""
