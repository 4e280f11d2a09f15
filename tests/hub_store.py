"""What the test Hub (hub_server.py) keeps: repositories, their branches as lists of commits, and blobs on disk."""

import base64
import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class HubError(Exception):
    """An answer other than 2xx: HTTP status, the Hub's X-Error-Code and message, and further JSON for the body."""

    def __init__(self, status: int, code: str, message: str, payload: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.payload = status, code, payload or {}


@dataclass(frozen=True)
class Blob:
    sha256: str
    oid: str  # git's SHA-1 of the content
    size: int
    lfs: bool


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """`branches` maps a name to its commits, oldest first; a new repository has one empty commit on main."""

    branches: dict[str, list[Commit]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.branches["main"] = [_make_commit("initial commit", {}, parent="")]

    def history(self, revision: str) -> list[Commit]:
        """Commits up to a branch's head or a commit's hash, oldest first; 404 RevisionNotFound for anything else."""
        if revision in self.branches:
            return self.branches[revision]
        for log in self.branches.values():
            for position, commit in enumerate(log):
                if commit.oid == revision:
                    return log[: position + 1]
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def commit(self, revision: str) -> Commit:
        return self.history(revision)[-1]

    def create_branch(self, name: str, start: str) -> None:
        with self.lock:
            if name in self.branches:
                raise HubError(409, "ReferenceExists", f"Reference already exists: {name}")
            self.branches[name] = list(self.history(start))

    def add_commit(self, store: "Store", branch: str, lines: list[dict[str, Any]]) -> Commit:
        """Applies the NDJSON lines of a commit request to `branch` and returns its new head."""
        with self.lock:
            if branch not in self.branches:
                raise HubError(404, "RevisionNotFound", f"Invalid branch: {branch}")
            head = self.branches[branch][-1]
            files, message = dict(head.files), ""
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    message = value["summary"]
                    if value.get("parentCommit", head.oid) != head.oid:
                        raise HubError(412, "PreconditionFailed", "A commit has happened since")
                elif line["key"] == "file":
                    files[value["path"]] = store.write(base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    files[value["path"]] = store.lfs_blob(value["oid"])
                elif line["key"] == "deletedFile":
                    if files.pop(value["path"], None) is None:
                        raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
                elif line["key"] == "deletedFolder":
                    folder = value["path"].rstrip("/") + "/"
                    files = {path: blob for path, blob in files.items() if not path.startswith(folder)}
                else:
                    raise HubError(400, "BadCommit", f"unknown operation {line['key']!r}")
            commit = _make_commit(message, files, parent=head.oid)
            self.branches[branch].append(commit)
            return commit


class Store:
    """All repositories, by kind ("model", "dataset") and "user/name"; blobs lie in `folder` under their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._repos: dict[tuple[str, str], Repo] = {}

    def create(self, kind: str, repo_id: str) -> bool:
        """False if the repository is there already."""
        fresh = Repo()
        return self._repos.setdefault((kind, repo_id), fresh) is fresh

    def repo(self, kind: str, repo_id: str) -> Repo:
        repo = self._repos.get((kind, repo_id))
        if repo is None:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return repo

    def delete(self, kind: str, repo_id: str) -> None:
        self.repo(kind, repo_id)
        del self._repos[kind, repo_id]

    def has(self, sha256: str) -> bool:
        return (self.folder / sha256).is_file()

    def read(self, blob: Blob) -> bytes:
        return (self.folder / blob.sha256).read_bytes()

    def write(self, data: bytes) -> Blob:
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder / sha256).write_bytes(data)
        return Blob(sha256, hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), len(data), lfs=False)

    def lfs_blob(self, sha256: str) -> Blob:
        if not self.has(sha256):
            raise HubError(400, "MissingLfsObject", f"LFS object {sha256} was never uploaded")
        pointer_oid = hashlib.sha1(sha256.encode()).hexdigest()
        return Blob(sha256, pointer_oid, (self.folder / sha256).stat().st_size, lfs=True)


def _make_commit(message: str, files: dict[str, Blob], parent: str) -> Commit:
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    listing = "\n".join(f"{path} {blob.oid}" for path, blob in sorted(files.items()))
    return Commit(hashlib.sha1(f"{parent}\n{date}\n{message}\n{listing}".encode()).hexdigest(), message, date, files)


def tree_file(path: str, blob: Blob) -> dict[str, object]:
    """A file as the tree and paths-info endpoints list it."""
    entry: dict[str, object] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry


def info_file(path: str, blob: Blob, detailed: bool) -> dict[str, object]:
    """A file as repo info lists it, with sizes and hashes if they were asked for."""
    sibling: dict[str, object] = {"rfilename": path}
    if detailed:
        sibling |= {"size": blob.size, "blobId": blob.oid}
        if blob.lfs:
            sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}
    return sibling


def tree_folder(path: str) -> dict[str, object]:
    """A folder as the tree endpoint lists it."""
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
