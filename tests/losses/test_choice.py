"""Cross-entropy among a few tokens: parity with the renormalised distribution."""

import torch

from hf_reason.losses import LMHead, choice_log_probs


def test_equals_the_distribution_renormalised_to_the_choices():
    torch.manual_seed(0)
    for softcap, scale in ((None, 1.0), (5.0, 0.7)):
        hidden, weight = torch.randn(6, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
        bias = torch.randn(30)
        choices = torch.tensor([[3, 9, -1], [0, 1, 2], [5, 6, -1], [29, 3, 0], [7, 8, 9], [11, 12, -1]])
        targets = torch.tensor([9, 0, 5, 29, 8, 12])
        found, right = choice_log_probs(hidden, LMHead(weight, bias, scale, softcap), targets, choices)
        logits = scale * (hidden @ weight.T + bias)
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        probabilities = logits.softmax(-1)
        for place, (row, target) in enumerate(zip(choices.tolist(), targets.tolist(), strict=True)):
            allowed = [token for token in row if token >= 0]
            expected = probabilities[place, target] / probabilities[place, allowed].sum()
            assert torch.allclose(found[place], expected.log(), atol=1e-5)
            assert right[place] == (probabilities[place, target] == probabilities[place, allowed].max())
        found.sum().backward()
        untouched = [token for token in range(30) if token not in choices]
        assert not weight.grad[untouched].any() and weight.grad[choices[choices >= 0]].any()
        assert hidden.grad.abs().sum(dim=1).all()


def test_no_position_gives_nothing():
    values, right = choice_log_probs(
        torch.zeros(0, 4),
        LMHead(torch.zeros(5, 4)),
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, 2, dtype=torch.long),
    )
    assert values.shape == right.shape == (0,)
