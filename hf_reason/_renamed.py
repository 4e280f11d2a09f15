"""Arguments that were renamed: the old name raises an error that gives the new one."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T", bound=Callable[..., Any])


class RenamedArgumentError(TypeError):
    """A call with an argument's old name; the message has the new one."""


def renamed(**names: str) -> Callable[[_T], _T]:
    """Decorate a function or a class whose keyword arguments were renamed in version 0.2.

    Args:
        **names: Old name -> new name. The mapping of a class includes those of its parents, and is readable as
            `__renamed__`.

    Raises:
        TypeError: (by the decorated callable) if an old name is passed.
    """

    def decorate(target: _T) -> _T:
        known = {**getattr(target, "__renamed__", {}), **names}
        call = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]

        @functools.wraps(call)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & known.keys():
                raise RenamedArgumentError(
                    f"{target.__name__}() got the argument {old!r}, which is called {known[old]!r} since version 0.2."
                )
            return call(*args, **kwargs)

        if isinstance(target, type):
            target.__init__ = checked  # type: ignore[misc]
            target.__renamed__ = known  # type: ignore[attr-defined]
            return target
        checked.__renamed__ = known  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate
