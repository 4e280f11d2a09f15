"""API keys: made once, shown once, and kept as hashes only."""

import hashlib
import ipaddress
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from hf_reason._files import write_atomically

_PREFIX = "sk-hfr-"


def hashed(key: str) -> str:
    """SHA-256 of a key. A key has 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class ApiKeys:
    """Hash -> name of each client.

    Args:
        names: What `read` gives; empty lets everybody in.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = dict(names or {})

    def __len__(self) -> int:
        return len(self._names)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "ApiKeys":
        """The keys of a file that `add_key` has written.

        Raises:
            ValueError: if there is no such file, or it is something else.
        """
        try:
            listed = json.loads(Path(path).read_text(encoding="utf-8"))
            names = {item["sha256"]: item["name"] for item in listed}
        except FileNotFoundError:
            raise ValueError(f"There is no file {path}. Make a key: hf-reason serve --new_api_key NAME.") from None
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is no file of API keys (a list of name and sha256): {error}.") from error
        if not names:
            raise ValueError(f"{path} has no key. Make one: hf-reason serve --new_api_key NAME.")
        return cls(names)

    def client(self, key: str | None) -> str | None:
        """The name of the client with this key; `None` for a key that is not known."""
        # the look-up compares hashes, so its time tells nothing about a key
        return None if key is None else self._names.get(hashed(key))


def add_key(path: str | os.PathLike[str], name: str) -> str:
    """Make a key for a client and add its hash to the file, which only its owner can read.

    Args:
        path: The file; made if it is missing.
        name: Of the client, in logs.

    Returns:
        The key. It cannot be read from the file.

    Raises:
        ValueError: for a name that is in use or cannot be one, or a file of something else.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise ValueError(f"{name!r} cannot name a client: 1 to 64 letters, digits, dots, dashes or underlines.")
    listed = []
    if Path(path).is_file():
        ApiKeys.read(path)
        listed = json.loads(Path(path).read_text(encoding="utf-8"))
    if any(item["name"] == name for item in listed):
        raise ValueError(f"{path} has a key for {name} already. Choose another name, or remove its entry.")
    key = _PREFIX + secrets.token_urlsafe(32)
    listed.append({"name": name, "sha256": hashed(key), "created": int(time.time())})
    write_atomically(path, json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
    os.chmod(path, 0o600)
    return key


def check_bind(host: str, keys: ApiKeys) -> None:
    """Refuse to listen where others can connect without a key.

    Raises:
        ValueError: for such an address.
    """
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not keys:
        raise ValueError(
            f"host={host} lets other machines connect, and there are no API keys. Make one (hf-reason serve "
            "--new_api_key NAME --api_keys FILE) and give --api_keys FILE, or keep the host 127.0.0.1."
        )
