"""Path consistency: student and teacher agree on how the steps of a chain relate to each other."""

import torch


def step_vectors(hidden_states: torch.Tensor, step_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean hidden state of each step of each chain.

    A chain is a run of steps with rising numbers in one row; the answer counts as its last step. A packed row holds
    several, which their prompts (step 0) or a falling number separate. A row without steps holds none.

    Args:
        hidden_states: `(batch, time, width)`.
        step_ids: `(batch, time)`; 0 is no step.

    Returns:
        `(chains, most steps, width)`, zero behind a chain's end, in float32 or wider; and the number of steps of
        each chain, `(chains,)`.
    """
    batch, time, width = hidden_states.shape
    real = torch.promote_types(hidden_states.dtype, torch.float32)
    device = hidden_states.device
    inside = step_ids > 0
    before = torch.nn.functional.pad(step_ids[:, :-1], (1, 0)) if time else step_ids
    new_step = inside & (step_ids != before)
    new_chain = inside & ((before == 0) | (step_ids < before))
    step = (new_step.reshape(-1).cumsum(0) - 1)[inside.reshape(-1)]
    starts = new_step.reshape(-1).nonzero().squeeze(1)
    chain = new_chain.reshape(-1).cumsum(0)[starts] - 1
    steps, chains = len(starts), int(chain[-1]) + 1 if len(starts) else 0
    sums = torch.zeros(steps, width, dtype=real, device=device)
    sums = sums.index_add(0, step, hidden_states[inside].to(real))
    lengths = torch.zeros(steps, dtype=real, device=device).index_add(0, step, torch.ones_like(step, dtype=real))
    counts = torch.bincount(chain, minlength=chains)
    first = counts.cumsum(0) - counts
    place = torch.arange(steps, device=device) - first[chain]
    vectors = torch.zeros(chains, int(counts.max()) if chains else 0, width, dtype=real, device=device)
    return vectors.index_put((chain, place), sums / lengths.unsqueeze(1)), counts


def step_similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every step with every step of its chain.

    Args:
        vectors: `(chains, steps, width)`.

    Returns:
        `(chains, steps, steps)`; 0 where a vector is 0.
    """
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return vectors @ vectors.transpose(1, 2)


def path_consistency_loss(student: torch.Tensor, teacher: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """How far the student's similarities between steps are from the teacher's, for each chain.

    For a chain of n steps with similarities S (student) and T (teacher), the loss is the mean over the n (n - 1) / 2
    pairs of a step i and an earlier step j of `(S_ij - T_ij)^2`. It is a relational distillation in the sense of Park
    et al. (2019, arXiv 1904.05068): relations between the parts of an example are compared, not the parts, so the
    two widths may differ. They compare distances and angles over a batch by the Huber loss; here the relation is the
    cosine within a chain, bounded by 1, where the Huber loss is half the square.

    Args:
        student: `(chains, steps, steps)` of `step_similarities`.
        teacher: The same shape; it gets no gradient.
        counts: `(chains,)` number of steps of each chain.

    Returns:
        `(chains,)`; a chain of one step has no pair, and a loss of 0.

    Raises:
        ValueError: if the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"The student's steps have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}: "
            "the two have read different chains."
        )
    place = torch.arange(student.shape[1], device=student.device)
    pairs = (place.unsqueeze(1) > place) & (place.unsqueeze(1) < counts.view(-1, 1, 1))
    gaps = (student - teacher.detach().to(student.dtype)).square() * pairs
    return gaps.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
