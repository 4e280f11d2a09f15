"""Success or not: what a feedback, or an answer whose reference is known, means for an experiment."""

from hf_reason.answers.verify import answers_match

from .feedback import Feedback


def outcome_of_feedback(feedback: Feedback) -> int | None:
    """1 for a success, 0 for none, `None` where the feedback does not say.

    A corrected answer is compared with the served one: another answer is no success, whatever the thumbs say; the same
    one counts as the thumbs do, without them as a success; where that cannot be decided, only thumbs down count.
    Corrected steps are no success. A comment alone says nothing.
    """
    if feedback.corrected_steps:
        return 0
    thumbs = None if feedback.thumbs is None else int(feedback.thumbs == "up")
    if not feedback.corrected_answer:
        return thumbs
    same = outcome_of_answer(feedback.served.answer, feedback.corrected_answer)
    if same is None:
        return 0 if thumbs == 0 else None
    return same if thumbs is None else min(same, thumbs)


def outcome_of_answer(answer: str, reference: str) -> int | None:
    """1 if an answer states the same as the known one, 0 if not, `None` if that cannot be decided."""
    match = answers_match(answer, reference)
    return None if match is None else int(match)
