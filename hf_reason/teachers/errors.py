"""The errors of teachers."""


class TeacherError(ValueError):
    """A teacher that cannot be used. The message says what is wrong, where, and what to do."""


class RequestError(TeacherError):
    """A request that a server did not answer.

    Args:
        message: What it said.
        status: Of HTTP; `None` without an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
