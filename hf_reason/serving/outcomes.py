"""Success or not: what a feedback, or an answer whose reference is known, means for an experiment."""

from hf_reason.answers.verify import answers_match

from .feedback import Feedback


def outcome_of_feedback(feedback: Feedback) -> int | None:
    """1 for thumbs up, 0 for thumbs down or a correction, `None` for a comment alone.

    A correction of what was served counts as no success, whatever the thumbs say.
    """
    if feedback.corrected_steps or feedback.corrected_answer:
        return 0
    return None if feedback.thumbs is None else int(feedback.thumbs == "up")


def outcome_of_answer(answer: str, reference: str) -> int | None:
    """1 if an answer states the same as the known one, 0 if not, `None` if that cannot be decided."""
    match = answers_match(answer, reference)
    return None if match is None else int(match)
