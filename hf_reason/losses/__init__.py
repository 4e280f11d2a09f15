"""Losses as pure functions of tensors."""

from .choice import choice_log_probs
from .divergence import DivergenceOutput, LiveTargets, LMHead, TopKTargets, chunked_divergence
from .path import path_consistency_loss, step_similarities, step_vectors
from .smoothing import smoothing_term
from .weights import token_weights

__all__ = [
    "DivergenceOutput",
    "LMHead",
    "LiveTargets",
    "TopKTargets",
    "choice_log_probs",
    "chunked_divergence",
    "path_consistency_loss",
    "smoothing_term",
    "step_similarities",
    "step_vectors",
    "token_weights",
]
