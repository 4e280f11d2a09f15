"""What goes wrong with a teacher."""


class TeacherError(ValueError):
    """A teacher that cannot be used. The message says what is wrong, where, and the mend."""
