"""The error of teachers."""


class TeacherError(ValueError):
    """A teacher that cannot be used. The message says what is wrong, where, and what to do."""
