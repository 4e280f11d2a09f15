"""Losses as pure functions of tensors."""

from .smoothing import smoothing_term
from .weights import token_weights

__all__ = ["smoothing_term", "token_weights"]
