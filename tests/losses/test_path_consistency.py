"""Path consistency against plain loops; chains, packed rows, single steps, other widths."""

import pytest
import torch

from hf_reason.losses import path_consistency_loss, step_similarities, step_vectors

STEPS = torch.tensor(
    [
        [0, 0, 1, 1, 2, 2, 2, 3, 0, 0],
        [0, 1, 1, 1, 0, 1, 2, 2, 3, 4],  # packed: a chain of one step, then one of four
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 2, 1, 2, 2, 3, 0, 0, 0],  # no prompt between two chains
    ]
)
CHAINS = [
    [(0, [2, 3]), (0, [4, 5, 6]), (0, [7])],
    [(1, [1, 2, 3])],
    [(1, [5]), (1, [6, 7]), (1, [8]), (1, [9])],
    [(3, [0, 1]), (3, [2])],
    [(3, [3]), (3, [4, 5]), (3, [6])],
]


@pytest.fixture
def hidden():
    return torch.randn(*STEPS.shape, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_vectors_are_the_means_over_the_tokens_of_each_step(hidden):
    vectors, counts = step_vectors(hidden, STEPS)
    assert counts.tolist() == [len(chain) for chain in CHAINS]
    for number, chain in enumerate(CHAINS):
        for place, (row, tokens) in enumerate(chain):
            assert torch.allclose(vectors[number, place], hidden[row, tokens].mean(0))
        assert vectors[number, len(chain) :].eq(0).all()


def loss_by_hand(student, teacher):
    losses = []
    for chain in CHAINS:
        gaps = []
        for i in range(len(chain)):
            for j in range(i):
                (a, first), (b, second) = chain[i], chain[j]
                similarity = [
                    torch.cosine_similarity(side[a, first].mean(0), side[b, second].mean(0), dim=0)
                    for side in (student, teacher)
                ]
                gaps.append((similarity[0] - similarity[1]) ** 2)
        losses.append(torch.stack(gaps).mean() if gaps else torch.tensor(0.0, dtype=student.dtype))
    return torch.stack(losses)


def test_loss_and_gradient_equal_the_loops(hidden):
    student = hidden.clone().requires_grad_()
    # another width
    teacher = torch.randn(*STEPS.shape, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    vectors, counts = step_vectors(student, STEPS)
    other = step_similarities(step_vectors(teacher, STEPS)[0])
    ours = path_consistency_loss(step_similarities(vectors), other, counts)
    theirs = loss_by_hand(student, teacher)
    assert torch.allclose(ours, theirs)
    assert ours[1] == 0  # one step: no pair
    gradients = [torch.autograd.grad(loss.sum(), student, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients)
    assert gradients[0][0, :2].eq(0).all() and gradients[0][1, 1:4].eq(0).all()  # prompts, and the lone step


def test_the_same_relations_cost_nothing(hidden):
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    vectors, counts = step_vectors(hidden, STEPS)
    turned, _ = step_vectors(3 * hidden @ rotation, STEPS)
    assert path_consistency_loss(step_similarities(vectors), step_similarities(turned), counts).abs().max() < 1e-12


def test_the_teacher_gets_no_gradient(hidden):
    student, teacher = hidden.clone().requires_grad_(), (hidden + 1).requires_grad_()
    (vectors, counts), (others, _) = step_vectors(student, STEPS), step_vectors(teacher, STEPS)
    path_consistency_loss(step_similarities(vectors), step_similarities(others), counts).sum().backward()
    assert student.grad is not None and teacher.grad is None


def test_no_step_anywhere(hidden):
    student = hidden.clone().requires_grad_()
    vectors, counts = step_vectors(student, torch.zeros_like(STEPS))
    loss = path_consistency_loss(step_similarities(vectors), step_similarities(vectors.detach()), counts).sum()
    assert loss == 0 and counts.numel() == 0
    loss.backward()
    assert student.grad is not None and student.grad.eq(0).all()


def test_half_precision_is_averaged_in_single(hidden):
    vectors, _ = step_vectors(hidden.to(torch.bfloat16), STEPS)
    assert vectors.dtype == torch.float32


def test_different_chains_are_refused():
    with pytest.raises(ValueError, match="have read different chains"):
        path_consistency_loss(torch.zeros(2, 3, 3), torch.zeros(2, 4, 4), torch.tensor([3, 3]))
