"""Losses as pure functions of tensors."""

from .agreement import Agreement, agreement
from .choice import choice_log_probs
from .divergence import DivergenceOutput, chunked_divergence
from .events import LiveTargets, TopKTargets
from .head import LMHead
from .path import path_consistency_loss, step_similarities, step_vectors
from .smoothing import smoothing_term
from .weights import token_weights

__all__ = [
    "Agreement",
    "DivergenceOutput",
    "LMHead",
    "LiveTargets",
    "TopKTargets",
    "agreement",
    "choice_log_probs",
    "chunked_divergence",
    "path_consistency_loss",
    "smoothing_term",
    "step_similarities",
    "step_vectors",
    "token_weights",
]
