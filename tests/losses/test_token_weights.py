"""Token weights and smoothing against plain formulas."""

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from hf_reason.losses import LMHead, smoothing_term, token_weights

LABELS = torch.tensor([[-100, -100, 5, 6, 7, 8, 9, 1], [-100, 4, 4, 1, -100, -100, -100, -100]])
SEGMENTS = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 2, 0, 0, 0, 0]])
STEPS = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 3], [0, 1, 1, 2, 0, 0, 0, 0]])


def test_weights_of_segments():
    weights = token_weights(LABELS, SEGMENTS, STEPS, thought_weight=0.5, answer_weight=2.0)
    assert weights.tolist() == [[0, 0, 0.5, 0.5, 0.5, 0.5, 2, 2], [0, 0.5, 0.5, 2, 0, 0, 0, 0]]


def test_every_step_weighs_the_same():
    weights = token_weights(LABELS, SEGMENTS, STEPS, step_weighting="step", answer_weight=3.0)
    third = 1 / 3
    assert torch.allclose(weights[0], torch.tensor([0, 0, third, third, third, 1, 1.5, 1.5]))
    assert torch.allclose(weights[1], torch.tensor([0, 0.5, 0.5, 3, 0, 0, 0, 0]))


def test_packed_sequences_with_equal_step_numbers_stay_apart():
    labels = torch.tensor([[-100, 5, 6, 1, -100, 5, 1]])
    segments = torch.tensor([[0, 1, 1, 2, 0, 1, 2]])
    steps = torch.tensor([[0, 1, 1, 2, 0, 1, 2]])
    weights = token_weights(labels, segments, steps, step_weighting="step")
    assert weights.tolist() == [[0, 0.5, 0.5, 1, 0, 1, 1]]


def test_rows_that_end_and_begin_with_the_same_step_stay_apart():
    labels, segments = torch.tensor([[5, 6], [7, 8]]), torch.ones(2, 2, dtype=torch.long)
    weights = token_weights(labels, segments, torch.ones(2, 2, dtype=torch.long), step_weighting="step")
    assert weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="step_weighting"):
        token_weights(LABELS, SEGMENTS, STEPS, step_weighting="word")


@pytest.mark.parametrize("with_bias", [False, True])
def test_smoothing_equals_the_smoother_of_transformers(with_bias):
    torch.manual_seed(0)
    hidden = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(13, dtype=torch.float64, requires_grad=True) if with_bias else None
    labels = torch.randint(0, 13, (11,))
    logits = torch.nn.functional.linear(hidden, weight, bias)
    inputs = [x for x in (hidden, weight, bias) if x is not None]
    expected = LabelSmoother(epsilon=0.3)({"logits": logits[None]}, labels[None])
    nll = torch.nn.functional.cross_entropy(logits, labels)
    actual = nll + 0.3 * smoothing_term(hidden, LMHead(weight, bias), labels).mean()
    assert torch.allclose(expected, actual.to(expected), atol=1e-6)
    gradients = torch.autograd.grad(expected, inputs, retain_graph=True)
    for left, right in zip(gradients, torch.autograd.grad(actual, inputs), strict=True):
        assert torch.allclose(left, right, atol=1e-6)
