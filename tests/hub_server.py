"""A Hugging Face Hub on loopback for tests: what huggingface_hub needs to push and to load, and no more.

    with HubServer(tmp_path) as hub:
        subprocess.run([sys.executable, "push.py"], env=hub.env())

HF_ENDPOINT is read when huggingface_hub is imported, so a client of this server is a fresh process with `hub.env()`.
Speaks: create/delete repo, branches, preupload, commits (NDJSON, git LFS uploads), repo info, tree, paths-info, refs,
commit list, resolve with ranges, whoami, validate-yaml. Models and datasets, no Xet, no pull requests, one user.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_store import HubError, Repo, Store, info_file, tree_file, tree_folder

USER = "tester"
TOKEN = "hf_loopback_only"
_LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".pt", ".pth", ".gguf", ".zip", ".gz", ".model")
_REPO = r"(?P<kind>model|dataset)s/(?P<repo>[^/]+/[^/]+)"
_FILE_REPO = r"(?:(?P<kind>dataset)s/)?(?P<repo>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"


@dataclass
class Fault:
    """A status in place of the answer, or an answer that breaks off after some of its bytes (status 0)."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


class HubServer:
    """The server, in threads of this process, on a free port; blobs are kept under `root`."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.store = Store(self.root / "blobs")
        handler = type("BoundHandler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.requests: list[str] = []
        # What goes wrong: called with a request as in `requests`, before it is served; see `Fault`.
        self.fault: Callable[[str], Fault | None] = lambda _request: None

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def env(self, home: str = "client", **extra: str) -> dict[str, str]:
        """The environment of a client process; another `home` has another (empty) cache, as another machine would."""
        caches = re.compile(r"(?i).*_proxy$|^(HF|HUGGINGFACE|TRANSFORMERS|DATASETS)_.*")
        env = {name: value for name, value in os.environ.items() if not caches.match(name)}
        return env | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(self.root / home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "*",
            "TOKENIZERS_PARALLELISM": "false",
            **extra,
        }

    def files(self, repo_id: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """What a repository holds, for a test to look at without a client."""
        repo = self.store.repo(kind, repo_id)
        return {path: self.store.read(blob) for path, blob in repo.commit(revision).files.items()}


class _Handler(BaseHTTPRequestHandler):
    """One request: finds the route, answers JSON or bytes; a HubError becomes the Hub's status and X-Error-Code."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    fault: Fault | None = None

    def log_message(self, *_: object) -> None:
        """Silent; `HubServer.requests` has the list."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.body = self._read_body()
        self.fault = self.hub.fault(f"{self.command} {self.path}")
        if self.fault and self.fault.status:
            headers = {"X-Error-Message": "the test Hub is out of order", **self.fault.headers}
            return self._answer(self.fault.status, {"error": "out of order"}, headers)
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for verb, pattern, action in _ROUTES:
                match = re.fullmatch(pattern, url.path) if verb == method else None
                if match:
                    return action(self, **{name: unquote(part) for name, part in match.groupdict().items() if part})
            # names without a user ("gpt2") match no route: to a client they are repositories that do not exist
            about_repo = re.match(r"/api/(model|dataset)s/|/.+/resolve/", url.path)
            code = "RepoNotFound" if about_repo else "NotFound"
            raise HubError(404, code, f"the test Hub has nothing at {method} {url.path}")
        except HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._answer(error.status, {"error": str(error), **error.payload}, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            broken = self.fault is not None and not self.fault.status
            self.wfile.write(data[: len(data) // 2] if broken else data)
            self.close_connection |= broken

    def _writable(self, kind: str, repo: str) -> Repo:
        self._authorize()
        return self.hub.store.repo(kind, repo)

    def _authorize(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise HubError(401, "Unauthorized", "Invalid credentials in Authorization header")

    # accounts and repositories

    def whoami(self) -> None:
        self._authorize()
        access = {"accessToken": {"displayName": "tests", "role": "write"}}
        self._answer(200, {"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": [], "auth": access})

    def create_repo(self) -> None:
        self._authorize()
        asked = json.loads(self.body)
        kind, repo_id = asked.get("type") or "model", f"{asked.get('organization') or USER}/{asked['name']}"
        prefix = "datasets/" if kind == "dataset" else ""
        created = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id}
        if not self.hub.store.create(kind, repo_id):
            raise HubError(409, "RepoExists", "You already created this repo", payload=created)
        self._answer(200, created)

    def delete_repo(self) -> None:
        self._authorize()
        asked = json.loads(self.body)
        self.hub.store.delete(asked.get("type") or "model", f"{asked.get('organization') or USER}/{asked['name']}")
        self._answer(200, {})

    def create_branch(self, kind: str, repo: str, revision: str) -> None:
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        self._writable(kind, repo).create_branch(revision, start)
        self._answer(200, {})

    def repo_info(self, kind: str, repo: str, revision: str = "main") -> None:
        commit = self.hub.store.repo(kind, repo).commit(revision)
        detailed = "blobs" in self.query
        siblings = [info_file(path, blob, detailed) for path, blob in sorted(commit.files.items())]
        facts = {"_id": repo, "id": repo, "author": repo.split("/")[0], "sha": commit.oid, "siblings": siblings}
        flags = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        self._answer(200, {**facts, **flags, "lastModified": commit.date, "createdAt": commit.date})

    def refs(self, kind: str, repo: str) -> None:
        branches = self.hub.store.repo(kind, repo).branches
        listed = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": log[-1].oid} for name, log in branches.items()
        ]
        self._answer(200, {"branches": listed, "tags": [], "converts": [], "pullRequests": []})

    def commits(self, kind: str, repo: str, revision: str) -> None:
        log = self.hub.store.repo(kind, repo).history(revision)
        shared = {"message": "", "authors": [{"user": USER}]}
        listed = [{"id": commit.oid, "title": commit.message, "date": commit.date, **shared} for commit in log]
        self._answer(200, listed[::-1])

    # reading

    def tree(self, kind: str, repo: str, revision: str, path: str = "") -> None:
        folder = f"{path.strip('/')}/" if path else ""
        files = self.hub.store.repo(kind, repo).commit(revision).files
        inside = {name: blob for name, blob in files.items() if name.startswith(folder)}
        if folder and not inside:
            raise HubError(404, "EntryNotFound", f"{path} does not exist on {revision}")
        deep = self.query.get("recursive", "").lower() in ("true", "1")
        entries: dict[str, dict[str, object]] = {}
        for name, blob in sorted(inside.items()):
            parts = name[len(folder) :].split("/")
            for depth in range(1, len(parts)) if deep else range(1, min(2, len(parts))):
                sub = folder + "/".join(parts[:depth])
                entries[sub] = tree_folder(sub)
            if deep or len(parts) == 1:
                entries[name] = tree_file(name, blob)
        self._answer(200, list(entries.values()))

    def paths_info(self, kind: str, repo: str, revision: str) -> None:
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        files = self.hub.store.repo(kind, repo).commit(revision).files
        found = [tree_file(path, files[path]) for path in paths if path in files]
        folders = [tree_folder(path) for path in paths if any(name.startswith(f"{path}/") for name in files)]
        self._answer(200, found + folders)

    def resolve(self, repo: str, revision: str, path: str, kind: str = "model") -> None:
        commit = self.hub.store.repo(kind, repo).commit(revision)
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        blob = commit.files.get(path)
        if blob is None:
            # the client caches "this file is not there" under the commit, so the header belongs to the 404 as well
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self._answer(404, {"error": "Entry not found"}, headers)
        headers["ETag"] = f'"{blob.sha256 if blob.lfs else blob.oid}"'
        if blob.lfs:
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(blob.size)}
        data = self.hub.store.read(blob)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._answer(200, data, headers)
        first, last = asked.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        if start >= stop:
            return self._answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
        self._answer(206, data[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

    # writing

    def preupload(self, kind: str, repo: str, revision: str) -> None:
        files = self._writable(kind, repo).commit(revision).files
        plan = []
        for asked in json.loads(self.body)["files"]:
            path, sample = asked["path"], base64.b64decode(asked["sample"])
            lfs = path.endswith(_LFS_SUFFIXES) or b"\0" in sample or asked["size"] > 10_000_000
            old = files.get(path)
            oid = (old.sha256 if old.lfs else old.oid) if old else None
            plan.append({"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
        self._answer(200, {"files": plan})

    def lfs_batch(self, repo: str, kind: str = "model") -> None:
        self._writable(kind, repo)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}
            known = self.hub.store.has(asked["oid"])
            objects.append(asked if known else {**asked, "actions": upload})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, sha256: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != sha256:
            raise HubError(400, "BadUpload", f"the bytes received are not those of {sha256}")
        self.hub.store.write(self.body)
        self._answer(200, b"")

    def commit(self, kind: str, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        commit = self._writable(kind, repo).add_commit(self.hub.store, revision, lines)
        self._answer(
            200, {"success": True, "commitOid": commit.oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit.oid}"}
        )

    def validate_yaml(self) -> None:
        match = re.match(r"---\r?\n(.*?)\r?\n---", json.loads(self.body)["content"], re.DOTALL)
        try:
            metadata = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError as error:
            raise HubError(400, "BadYaml", "YAML", payload={"errors": [{"message": str(error)}]}) from error
        empty = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        self._answer(200, {"errors": [], "warnings": empty})


_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("DELETE", r"/api/repos/delete", _Handler.delete_repo),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("GET", rf"/api/{_REPO}/refs", _Handler.refs),
    ("GET", rf"/api/{_REPO}/commits/{_REVISION}", _Handler.commits),
    ("GET", rf"/api/{_REPO}/tree/{_REVISION}(?:/(?P<path>.*))?", _Handler.tree),
    ("GET", rf"/api/{_REPO}(?:/revision/{_REVISION})?", _Handler.repo_info),
    ("POST", rf"/api/{_REPO}/branch/{_REVISION}", _Handler.create_branch),
    ("POST", rf"/api/{_REPO}/paths-info/{_REVISION}", _Handler.paths_info),
    ("POST", rf"/api/{_REPO}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", rf"/api/{_REPO}/commit/{_REVISION}", _Handler.commit),
    ("POST", rf"/{_FILE_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})", _Handler.lfs_put),
    ("GET", rf"/{_FILE_REPO}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
]
