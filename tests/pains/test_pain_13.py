"""Pain 13, huggingface/trl#5731, #6629: a fused kernel changes the objective.

TRL's tiled kernel of today agrees with the formula as well, which is tested beside ours.
"""

import pytest
import torch
from plain_formulas import divergence

from hf_reason.losses import LiveTargets, LMHead, chunked_divergence


@pytest.fixture
def parts():
    torch.manual_seed(0)
    states = [torch.randn(37, width, dtype=torch.float64) for width in (16, 24)]
    heads = [torch.randn(90, width, dtype=torch.float64) for width in (16, 24)]
    return states, heads


def _plain(states, heads, beta, labels, weights, ce_weights, softcap):
    logits = [state @ head.T for state, head in zip(states, heads, strict=True)]
    if softcap:
        logits = [softcap * (logit / softcap).tanh() for logit in logits]
    ours, theirs = (logit.log_softmax(-1) for logit in logits)
    nll = -ours.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (weights * divergence(ours, theirs, beta) + ce_weights * nll).sum()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("ignored", [False, True])
def test_value_and_gradients_are_those_of_the_formula(parts, beta, softcap, ignored):
    (ours, theirs), heads = parts
    labels, weights = torch.randint(90, (37,)), torch.rand(37, dtype=torch.float64)
    weights = weights * 0 if ignored else weights
    results = []
    for fused in (True, False):
        state, head = ours.clone().requires_grad_(True), heads[0].clone().requires_grad_(True)
        if fused:
            targets = LiveTargets(theirs, LMHead(heads[1], softcap=softcap))
            loss = chunked_divergence(
                state,
                LMHead(head, softcap=softcap),
                targets,
                labels,
                weights=weights,
                ce_weights=weights / 2,
                beta=beta,
                chunk_size=5,
            ).loss
        else:
            loss = _plain((state, theirs), (head, heads[1]), beta, labels, weights, weights / 2, softcap)
        loss.backward()
        results.append((loss.detach(), state.grad, head.grad))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-9, rtol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_todays_trl_agrees_with_the_formula_too(parts):
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    (ours, theirs), heads = ([part.float() for part in both] for both in parts)
    found, _ = ChunkedDivergenceFunction.apply(
        ours, heads[0], None, theirs, heads[1], None, 1.0, 1.0, 1.0, None, 1.0, None
    )
    logits = [(state @ head.T).log_softmax(-1) for state, head in zip((ours, theirs), heads, strict=True)]
    torch.testing.assert_close(found, divergence(*logits, 1.0), atol=1e-4, rtol=1e-4)
