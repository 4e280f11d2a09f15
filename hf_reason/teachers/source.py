"""What a teacher is given as: one of five things, or several of them by domain."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .by_domain import DEFAULT, KEYS
from .cache_format import is_cache, read_meta
from .client import checked_url
from .errors import TeacherError

Kind = Literal["object", "model", "cache", "server", "self", "several"]
_WHAT = "a model's name or folder, the folder of a top-k cache, the URL of a server, or 'self'"


@dataclass(frozen=True)
class TeacherSource:
    """A teacher that has been recognised, not loaded.

    Attributes:
        kind: `"object"`: a model or a `Teacher` in memory; `"model"`: a model's folder or its name on the Hub;
            `"cache"`: the folder of a finished top-k cache; `"server"`: the URL of an OpenAI-compatible server;
            `"self"`: the student without its adapters; `"several"`: one for each domain.
        value: The object, the folder or name, the URL without a slash at its end, `"self"`, or domain -> source.
    """

    kind: Kind
    value: Any

    @classmethod
    def parse(cls, teacher: Any) -> "TeacherSource":
        """Tell which of these a teacher is.

        Args:
            teacher: A model, a `Teacher`, what `teacher_model_name_or_path` accepts, or a mapping of domains to such.

        Raises:
            TeacherError: if no teacher is given, a folder does not exist or holds neither a model nor a cache, a
                cache is unfinished or of another format, a URL is not one of a server, or a domain is not known or
                has a cache.
        """
        if isinstance(teacher, TeacherSource):
            return teacher
        if teacher is None or teacher == "":
            raise TeacherError(f"There is no teacher. Give teacher_model_name_or_path: {_WHAT}.")
        if isinstance(teacher, Mapping):
            return cls("several", _by_domain(teacher))
        if not isinstance(teacher, str | os.PathLike):
            return cls("object", teacher)
        name = os.fspath(teacher)
        if name == "self":
            return cls("self", name)
        if "://" in name:
            return cls("server", checked_url(name))
        if os.path.isdir(name):
            return cls(_kind_of_folder(name), name)
        if name.count("/") > 1 or name.startswith((".", "/", "~")):
            raise TeacherError(f"The teacher {name}: there is no such folder. Give {_WHAT}.")
        if ":" in name:
            raise TeacherError(f"{name!r} is no teacher. Give {_WHAT}; a URL begins with http:// or https://.")
        return cls("model", name)


def _by_domain(teachers: Mapping[Any, Any]) -> dict[str, TeacherSource]:
    unknown = [str(name) for name in teachers if name not in KEYS]
    if unknown or not teachers:
        what = f"{', '.join(unknown)} is no domain" if unknown else "the mapping is empty"
        raise TeacherError(
            f"Teachers by domain: {what}. The domains are {', '.join(KEYS[:-1])}; {DEFAULT!r} is for all others."
        )
    found = {name: TeacherSource.parse(teacher) for name, teacher in teachers.items()}
    for name, source in found.items():
        if source.kind in ("cache", "several"):
            what = "a cache" if source.kind == "cache" else "a mapping"
            raise TeacherError(
                f"The teacher of the domain {name} is {what}. Of several teachers each must be a model, a server or "
                "'self'; a cache holds one teacher's distributions of a whole data set: train on one domain at a time."
            )
    return found


def _kind_of_folder(name: str) -> Kind:
    if is_cache(name):
        read_meta(Path(name))
        return "cache"
    if not any(Path(name, file).is_file() for file in ("config.json", "adapter_config.json")):
        raise TeacherError(
            f"The teacher {name}: the folder holds neither a model (config.json) nor a teacher cache (cache.json)."
        )
    return "model"
