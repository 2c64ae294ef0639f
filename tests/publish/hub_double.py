"""A stand-in for the hub: the part of its HTTP API that an upload by huggingface_hub needs.

Repositories live in memory, and requests fail as a test asks. A commit is made whole or not at all, as on the
hub: a file that was not uploaded, or a parent that is no longer the last commit, refuses it.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretsecretsecret"
LARGE = (".safetensors", ".onnx", ".bin")  # kept by LFS
DATE = "2025-01-01T00:00:00.000Z"


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by its path in it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@dataclass
class Commit:
    id: str
    title: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)  # titles

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.branches[branch][-1].files


@dataclass
class Fault:
    """A status, or the connection cut `before` the work, in the `middle` of the body or `after` the work."""

    method: str
    path: str
    times: int
    status: int = 0
    cut: str = ""
    then: object = None  # called in place of the fault


class Hub:
    """The server; `with Hub(token) as hub` serves on `hub.url`."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # uploaded large files by sha256
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.ignored: tuple[str, ...] = ()  # left out by a .gitignore of the repository
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Hub":
        serve = {"target": self.server.serve_forever, "kwargs": {"poll_interval": 0.01}}
        threading.Thread(**serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, path: str, times: int = 1, **fault) -> None:
        """Let the next requests of a method to paths that match fail."""
        self.faults.append(Fault(method, path, times, **fault))

    def asked(self, pattern: str) -> int:
        return sum(re.search(pattern, line) is not None for line in self.requests)

    def make(self, name: str, files: dict[str, bytes], *, private: bool = True) -> Repo:
        """Make a repository as somebody has it already."""
        self.repos[name] = Repo(private)
        self.add(name, "main", "first", {".gitattributes": b"*.onnx lfs\n", **files})
        return self.repos[name]

    def add(self, name: str, branch: str, title: str, files: dict[str, bytes], message: str = "") -> Commit:
        commits = self.repos[name].branches.setdefault(branch, [])
        content = f"{commits[-1:]}{title}{sorted(files.items())}"
        made = Commit(hashlib.sha1(content.encode()).hexdigest(), title, message, dict(files))
        commits.append(made)
        return made

    @property
    def commits(self) -> int:
        """How many commits uploads made, in all repositories and branches."""
        rows = [row for repo in self.repos.values() for row in repo.branches.values()]
        return sum(commit.title != "first" for row in rows for commit in row)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def serve(self) -> None:
        path, fault = urlsplit(self.path).path, self.find_fault()
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.cut == "middle":
            self.rfile.read(max(1, length // 2))
            return self.cut()
        body = self.rfile.read(length)
        self.hub.requests.append(f"{self.command} {path}")
        if fault and fault.then:
            fault.then()
        elif fault and fault.status:
            return self.answer({"error": "asked for by the test"}, fault.status)
        elif fault and fault.cut == "before":
            return self.cut()
        self.lost = bool(fault and fault.cut == "after")
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if not known and not path.startswith("/storage/"):  # an address of the storage is a key itself
            return self.answer({"error": "Invalid username or password."}, 401)
        with self.hub.lock:
            for method, pattern, work in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split():
                    return work(self, body, *map(unquote, found.groups()))
        return self.answer({"error": f"the double has no {self.command} {path}"}, 404)

    def find_fault(self) -> Fault | None:
        with self.hub.lock:
            for fault in self.hub.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, self.path):
                    fault.times -= 1
                    return fault
        return None

    def cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if getattr(self, "lost", False):
            return self.cut()
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        return None

    # ---- repositories and branches

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}"
        if given["organization"] != "me":
            return self.answer({"error": "You don't have the rights to create a model there"}, 403)
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            return self.answer({"error": "You already created this model repo", **url}, 409)
        self.hub.make(name, {}, private=given.get("visibility") == "private" or bool(given.get("private")))
        return self.answer(url)

    def commits_of(self, name: str, revision: str) -> list[Commit]:
        """The commits up to a branch or commit; none, and an answer, if there is none."""
        if (repo := self.hub.repos.get(name)) is None:
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return []
        for branch, row in repo.branches.items():
            ids = [commit.id for commit in row]
            if branch == revision or revision in ids:
                return row if branch == revision else row[: ids.index(revision) + 1]
        self.answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return []

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        if commits := self.commits_of(name, revision):
            files = [{"rfilename": path, "size": len(data)} for path, data in commits[-1].files.items()]
            self.answer({"id": name, "modelId": name, "sha": commits[-1].id, "siblings": files})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        branches = self.hub.repos[name].branches
        branches[branch] = list(branches["main"])
        self.answer({})

    def history(self, body: bytes, name: str, revision: str) -> None:
        rows = [vars(commit) | {"authors": [], "date": DATE} for commit in self.commits_of(name, revision)]
        if rows:
            self.answer([{key: row[key] for key in row if key != "files"} for row in reversed(rows)])

    def discussions(self, body: bytes, name: str) -> None:
        same = {"author": {"name": "me"}, "status": "open", "createdAt": DATE, "isPullRequest": True}
        same["repo"] = {"name": name, "type": "model"}
        pulls = self.hub.repos[name].pulls
        rows = [same | {"title": title, "num": place} for place, title in enumerate(pulls, start=1)]
        self.answer({"discussions": rows, "count": len(rows), "start": 0})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if commits := self.commits_of(name, revision):
            data = commits[-1].files[path]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(data, headers={"ETag": etag, "X-Repo-Commit": commits[-1].id})

    # ---- upload

    def validate(self, body: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if self.commits_of(name, revision):
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            ignored = self.hub.ignored
            files = [{"path": p, "uploadMode": modes[p], "shouldIgnore": p in ignored} for p in paths]
            self.answer({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [{"oid": entry["oid"], "size": entry["size"]} for entry in json.loads(body)["objects"]]
        for entry in objects:
            if entry["oid"] not in self.hub.stored:
                href = f"{self.hub.url}/storage/{entry['oid']}"
                entry |= {"authenticated": True, "actions": {"upload": {"href": href, "header": {}}}}
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer({"error": "other content than announced"}, 400)
        self.hub.stored[oid] = body
        return self.answer({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        commits = self.commits_of(name, revision)
        if not commits:
            return None
        given, *lines = [
            json.loads(line)["value"] | {"key": json.loads(line)["key"]} for line in body.splitlines()
        ]
        if given.get("parentCommit") not in (None, commits[-1].id):
            return self.answer({"error": "A commit has happened since. Please refresh and try again."}, 412)
        files = dict(commits[-1].files)
        for line in lines:
            if line["key"] == "deletedFile":
                del files[line["path"]]
            elif line["key"] == "file":
                files[line["path"]] = base64.b64decode(line["content"])
            elif line["oid"] in self.hub.stored:
                files[line["path"]] = self.hub.stored[line["oid"]]
            else:
                return self.answer({"error": f"{line['path']} was not uploaded"}, 400)
        repo, url, pull = self.hub.repos[name], f"{self.hub.url}/{name}", {}
        if "create_pr=" in self.path:
            repo.pulls.append(given["summary"])
            revision, pull = (
                f"refs/pr/{len(repo.pulls)}",
                {"pullRequestUrl": f"{url}/discussions/{len(repo.pulls)}"},
            )
            repo.branches[revision] = list(commits)
        made = self.hub.add(name, revision, given["summary"], files, given["description"])
        answer = {"success": True, "commitOid": made.id, "commitUrl": f"{url}/commit/{made.id}"}
        return self.answer(answer | pull)


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", f"/api/models/{NAME}", Handler.info),
    ("GET", f"/api/models/{NAME}/revision/(.+)", Handler.info),
    ("POST", f"/api/models/{NAME}/branch/(.+)", Handler.branch),
    ("GET", f"/api/models/{NAME}/commits/(.+)", Handler.history),
    ("GET", f"/api/models/{NAME}/discussions", Handler.discussions),
    ("POST", f"/api/models/{NAME}/preupload/(.+)", Handler.preupload),
    ("POST", f"/api/models/{NAME}/commit/(.+)", Handler.commit),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/storage/(\w+)", Handler.store),
    ("GET HEAD", f"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
)
