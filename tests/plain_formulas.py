"""Formulas written out plainly, for tests of the losses that compute them in pieces."""


def divergence(student, teacher, beta):
    """TRL's generalised Jensen-Shannon divergence of log-probabilities [..., vocabulary]; 0 is the forward KL."""
    p, q = teacher.exp(), student.exp()
    if beta == 0:
        return (p * (teacher - student)).sum(-1)
    if beta == 1:
        return (q * (student - teacher)).sum(-1)
    mixture = (beta * p + (1 - beta) * q).log()
    return beta * (p * (teacher - mixture)).sum(-1) + (1 - beta) * (q * (student - mixture)).sum(-1)
