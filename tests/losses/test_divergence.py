"""The chunked divergence against plain formulas in float64: values, gradients, weights, top-k, edges."""

import math

import pytest
import torch

from hf_reason.losses import LiveTargets, LMHead, TopKTargets, chunked_divergence

POSITIONS, WIDTH, TEACHER_WIDTH, VOCABULARY = 11, 6, 9, 37


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    return {
        "hidden": normal(POSITIONS, WIDTH).requires_grad_(),
        "weight": normal(VOCABULARY, WIDTH).requires_grad_(),
        "bias": normal(VOCABULARY).requires_grad_(),
        "teacher": LiveTargets(normal(POSITIONS, TEACHER_WIDTH), LMHead(normal(VOCABULARY, TEACHER_WIDTH))),
        "labels": labels.masked_fill(torch.arange(POSITIONS) % 4 == 1, -100),
        "weights": torch.rand(POSITIONS, generator=generator, dtype=torch.float64),
        "ce_weights": torch.rand(POSITIONS, generator=generator, dtype=torch.float64),
    }


def student_logits(case, scale=1.0, softcap=None):
    logits = (case["hidden"] @ case["weight"].T + case["bias"]) * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def teacher_log_probs(case, temperature, vocabulary=VOCABULARY):
    targets = case["teacher"]
    logits = targets.hidden_states @ targets.head.weight.T
    return (logits[:, :vocabulary] / temperature).log_softmax(1)


def plain(s, t, beta):
    """Divergence of two sets of log-probabilities, word for word."""
    if beta == 0:
        return (t.exp() * (t - s)).sum(1)
    if beta == 1:
        return (s.exp() * (s - t)).sum(1)
    m = (beta * t.exp() + (1 - beta) * s.exp()).log()
    return beta * (t.exp() * (t - m)).sum(1) + (1 - beta) * (s.exp() * (s - m)).sum(1)


def plain_loss(case, s, t, beta, logits):
    targeted = case["labels"] >= 0
    nll = -logits.log_softmax(1).gather(1, case["labels"].clamp(min=0).unsqueeze(1)).squeeze(1) * targeted
    return (case["weights"] * plain(s, t, beta)).sum() + (case["ce_weights"] * nll).sum()


def check(case, output, expected, rtol=1e-6):
    parameters = [case["hidden"], case["weight"], case["bias"]]
    assert torch.allclose(output.loss, expected, rtol=rtol, atol=1e-9)
    ours = torch.autograd.grad(3 * output.loss, parameters)
    theirs = torch.autograd.grad(3 * expected, parameters)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their, rtol=rtol, atol=1e-9)


def head(case, **more):
    return LMHead(case["weight"], case["bias"], **more)


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 1.0])
def test_values_and_gradients_equal_the_plain_formula(case, beta, temperature, chunk_size):
    output = chunked_divergence(
        case["hidden"],
        head(case),
        case["teacher"],
        case["labels"],
        weights=case["weights"],
        ce_weights=case["ce_weights"],
        beta=beta,
        temperature=temperature,
        chunk_size=chunk_size,
    )
    logits = student_logits(case)
    s, t = (logits / temperature).log_softmax(1), teacher_log_probs(case, temperature)
    assert torch.allclose(output.divergence, plain(s, t, beta), rtol=1e-6)
    check(case, output, plain_loss(case, s, t, beta, logits))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_scaled_and_capped_heads(case, beta):
    output = chunked_divergence(
        case["hidden"],
        head(case, logit_scale=0.7, softcap=2.0),
        case["teacher"],
        case["labels"],
        weights=case["weights"],
        ce_weights=case["ce_weights"],
        beta=beta,
        temperature=1.5,
        chunk_size=3,
    )
    logits = student_logits(case, 0.7, 2.0)
    check(case, output, plain_loss(case, (logits / 1.5).log_softmax(1), teacher_log_probs(case, 1.5), beta, logits))


def test_padded_heads_are_compared_on_the_shared_ids(case):
    shared = VOCABULARY - 5
    output = chunked_divergence(
        case["hidden"],
        head(case),
        case["teacher"],
        case["labels"],
        weights=case["weights"],
        ce_weights=case["ce_weights"],
        vocab_size=shared,
    )
    logits = student_logits(case)  # the cross-entropy keeps the student's whole head
    s, t = logits[:, :shared].log_softmax(1), teacher_log_probs(case, 1.0, shared)
    check(case, output, plain_loss(case, s, t, 0.0, logits))
    # a teacher with fewer rows gives the same by itself
    small = LiveTargets(case["teacher"].hidden_states, LMHead(case["teacher"].head.weight[:shared]))
    again = chunked_divergence(case["hidden"], head(case), small, case["labels"])
    assert torch.allclose(again.divergence, output.divergence, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_identical_models_have_no_divergence(case, beta):
    same = LiveTargets(case["hidden"].detach(), LMHead(case["weight"].detach(), case["bias"].detach()))
    output = chunked_divergence(case["hidden"], head(case), same, case["labels"], beta=beta)
    assert output.divergence.abs().max() < 1e-12
    gradient = torch.autograd.grad(output.loss, case["weight"])[0]
    assert gradient.abs().max() < 1e-12


def top_k(case, k, temperature=1.0):
    log_probs = teacher_log_probs(case, temperature)
    values, ids = log_probs.topk(k, dim=1)
    rest = log_probs.scatter(1, ids, -math.inf)
    return TopKTargets(ids, values, rest.logsumexp(1))


def weighted_divergence(case, targets, **options):
    """In chunks of four rows, with all of the case's weights."""
    weights = {name: case[name] for name in ("weights", "ce_weights")}
    return chunked_divergence(case["hidden"], head(case), targets, case["labels"], chunk_size=4, **weights, **options)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_top_k_equals_the_formula_on_k_plus_one_events(case, beta):
    k, temperature = 5, 1.5
    targets = top_k(case, k, temperature)
    output = weighted_divergence(case, targets, beta=beta, temperature=temperature)
    logits = student_logits(case)
    log_probs = (logits / temperature).log_softmax(1)
    known = log_probs.gather(1, targets.ids)
    s = torch.cat([known, log_probs.scatter(1, targets.ids, -math.inf).logsumexp(1, keepdim=True)], 1)
    t = torch.cat([targets.log_probs, targets.log_tail.unsqueeze(1)], 1)
    check(case, output, plain_loss(case, s, t, beta, logits))
    full = chunked_divergence(
        case["hidden"], head(case), case["teacher"], case["labels"], beta=beta, temperature=temperature
    )
    assert (output.divergence <= full.divergence + 1e-12).all()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_whole_vocabulary_as_top_k_is_the_full_divergence(case, beta):
    targets = top_k(case, VOCABULARY)
    full = chunked_divergence(case["hidden"], head(case), case["teacher"], case["labels"], beta=beta)
    output = chunked_divergence(case["hidden"], head(case), targets, case["labels"], beta=beta)
    assert torch.allclose(output.divergence, full.divergence, rtol=1e-6)
    ours, theirs = (torch.autograd.grad(value.loss, case["weight"])[0] for value in (output, full))
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("teacher_kind", ["live", "top-k"])
def test_extreme_logits_stay_finite(case, beta, teacher_kind):
    hidden = (case["hidden"] * 300).float().detach().requires_grad_()
    weight = case["weight"].float().detach().requires_grad_()
    states = (case["teacher"].hidden_states * 300).float()
    live = LiveTargets(states, LMHead(case["teacher"].head.weight.float()))
    case = {**case, "teacher": LiveTargets(live.hidden_states.double(), LMHead(live.head.weight.double()))}
    targets = live if teacher_kind == "live" else TopKTargets(*top_k(case, 4))
    output = chunked_divergence(hidden, LMHead(weight), targets, case["labels"], beta=beta)
    assert output.loss.isfinite()
    for gradient in torch.autograd.grad(output.loss, [hidden, weight]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_teacher_without_a_tail_stays_finite(case, beta):
    targets = top_k(case, 4)
    sure = TopKTargets(targets.ids, targets.log_probs, torch.full((POSITIONS,), -math.inf, dtype=torch.float64))
    output = chunked_divergence(case["hidden"], head(case), sure, case["labels"], beta=beta)
    # at most all of the student's mass against the smallest float32
    assert output.divergence.isfinite().all() and output.divergence.max() < 88
    assert torch.autograd.grad(output.loss, case["weight"])[0].isfinite().all()


def test_rounded_targets_are_normalised(case):
    targets = top_k(case, 4)
    scaled = TopKTargets(targets.ids, targets.log_probs + 0.01, targets.log_tail + 0.01)
    exact, ours = (chunked_divergence(case["hidden"], head(case), t, case["labels"]) for t in (targets, scaled))
    assert torch.allclose(ours.divergence, exact.divergence, rtol=1e-9)


def with_samples(targets, samples, log_probs):
    return targets._replace(tail_ids=samples, tail_log_prob=log_probs.gather(1, samples).mean(1))


def test_samples_of_the_rest_each_stand_for_a_share_of_its_mass(case):
    temperature, log_probs = 1.5, teacher_log_probs(case, 1.5)
    targets = top_k(case, 5, temperature)
    samples = log_probs.topk(9, dim=1).indices[:, [5, 6, 6, 8]]  # one token twice
    targets = with_samples(targets, samples, log_probs)
    output = weighted_divergence(case, targets, temperature=temperature)
    logits = student_logits(case)
    s = (logits / temperature).log_softmax(1)
    share = (targets.log_tail.exp() / 4).unsqueeze(1)
    top = targets.log_probs.exp() * (targets.log_probs - s.gather(1, targets.ids))
    rest = share * (log_probs.gather(1, samples) - s.gather(1, samples))
    divergence = top.sum(1) + rest.sum(1)
    assert torch.allclose(output.divergence, divergence, rtol=1e-9)
    nll = -logits.log_softmax(1).gather(1, case["labels"].clamp(min=0).unsqueeze(1)).squeeze(1) * (case["labels"] >= 0)
    expected = (case["weights"] * divergence).sum() + (case["ce_weights"] * nll).sum()
    names = [case[name] for name in ("hidden", "weight", "bias")]
    for ours, theirs in zip(*(torch.autograd.grad(x, names) for x in (output.loss, expected)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-12)


def test_samples_serve_the_forward_kl_only(case):
    targets = top_k(case, 5)
    sampled = with_samples(targets, targets.ids[:, :2], teacher_log_probs(case, 1.0))
    for beta in (0.5, 1.0):
        one, other = (
            chunked_divergence(case["hidden"], head(case), t, case["labels"], beta=beta) for t in (targets, sampled)
        )
        assert torch.equal(one.divergence, other.divergence)


def test_rows_without_a_target_leave_no_trace(case):
    nothing = torch.zeros(POSITIONS, dtype=torch.float64)
    output = chunked_divergence(
        case["hidden"],
        head(case),
        case["teacher"],
        torch.full((POSITIONS,), -100),
        weights=nothing,
        ce_weights=torch.ones(POSITIONS, dtype=torch.float64),
    )
    assert output.loss == 0 and output.nll.eq(0).all()
    assert torch.autograd.grad(output.loss, case["weight"])[0].eq(0).all()


def test_no_position_at_all_gives_a_differentiable_zero(case):
    empty = slice(0, 0)
    targets = LiveTargets(case["teacher"].hidden_states[empty], case["teacher"].head)
    output = chunked_divergence(case["hidden"][empty], head(case), targets, case["labels"][empty])
    assert output.loss == 0
    assert torch.autograd.grad(output.loss, case["weight"])[0].eq(0).all()


def test_cross_entropy_alone(case):
    output = chunked_divergence(case["hidden"], head(case), None, case["labels"], ce_weights=case["ce_weights"])
    logits = student_logits(case)
    expected = plain_loss(case, logits.log_softmax(1), logits.log_softmax(1), 0.0, logits)
    check(case, output, expected)
    assert output.divergence.eq(0).all()


def test_without_gradients_the_values_are_the_same(case):
    with_gradient = chunked_divergence(case["hidden"], head(case), case["teacher"], case["labels"], beta=0.5)
    with torch.no_grad():
        without = chunked_divergence(case["hidden"], head(case), case["teacher"], case["labels"], beta=0.5)
    assert torch.equal(without.loss, with_gradient.loss.detach()) and not without.loss.requires_grad


def test_a_frozen_head_gets_no_gradient(case):
    frozen = LMHead(case["weight"].detach(), case["bias"].detach())
    output = chunked_divergence(case["hidden"], frozen, case["teacher"], case["labels"], weights=case["weights"])
    logits = student_logits(case)
    expected = (case["weights"] * plain(logits.log_softmax(1), teacher_log_probs(case, 1.0), 0.0)).sum()
    ours, theirs = (torch.autograd.grad(loss, case["hidden"])[0] for loss in (output.loss, expected))
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_autocast_follows_the_plain_formula(case):
    hidden = case["hidden"].detach().float().requires_grad_()
    weight = case["weight"].detach().float().requires_grad_()
    states, teacher = case["teacher"].hidden_states.float(), case["teacher"].head.weight.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = chunked_divergence(
            hidden, LMHead(weight), LiveTargets(states, LMHead(teacher)), case["labels"], beta=0.5
        )
        s, t = (hidden @ weight.T).float().log_softmax(1), (states @ teacher.T).float().log_softmax(1)
        expected = plain(s, t, 0.5).sum()
    assert torch.allclose(output.loss, expected, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(loss, hidden)[0] for loss in (output.loss, expected))
    assert ours.dtype == torch.float32 and torch.allclose(ours, theirs, atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.5}, "beta must be between 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"vocab_size": VOCABULARY + 1}, "has only 37 rows"),
        ({"weights": torch.ones(3)}, "weights has 3 positions, the hidden states have 11"),
    ],
)
def test_bad_arguments(case, arguments, message):
    with pytest.raises(ValueError, match=message):
        chunked_divergence(case["hidden"], head(case), case["teacher"], case["labels"], **arguments)


def test_no_tensor_over_positions_and_vocabulary_is_kept(case):
    """Between forward and backward only the gradients stay: nothing grows with positions x vocabulary."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda x: x):
        chunked_divergence(case["hidden"], head(case), case["teacher"], case["labels"])
    assert saved and (POSITIONS, VOCABULARY) not in saved
