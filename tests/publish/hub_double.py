"""A stand-in for the hub: as much of its HTTP API as huggingface_hub uses to create, upload and commit.

A test double, no part of Uprank: repositories live in memory, and requests fail as a test asks. Commits are
made whole or not at all, as on the hub: a file that was not uploaded, or a parent that is no longer the
last commit, refuses the commit.
"""

import hashlib
import importlib.util
import re
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_secretsecretsecret"

spec = importlib.util.spec_from_file_location(
    "hub_double_requests", Path(__file__).with_name("hub_double_requests.py")
)
requests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(requests)


@dataclass
class Commit:
    id: str
    title: str
    message: str
    files: dict[str, bytes]
    parent: str | None = None


@dataclass
class Repo:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)  # titles

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.branches[branch][-1].files


@dataclass
class Fault:
    """What happens to requests: a status, or the connection is cut before or after the work is done."""

    method: str
    path: str
    times: int
    status: int = 0
    cut: str = ""  # `before`, `middle` of the body, `after` the work
    headers: dict[str, str] = field(default_factory=dict)
    then: object = None  # called instead of the fault


class Hub:
    """The server; `with Hub(token) as hub` serves on `hub.url`."""

    def __init__(self, token: str, organisations: tuple[str, ...] = ("me",)) -> None:
        self.token, self.organisations = token, organisations
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # uploaded large files by sha256
        self.parts: dict[tuple[str, int], bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.ignored: tuple[str, ...] = ()  # what a .gitignore of the repository leaves out
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (requests.Handler,), {"hub": self})
        )
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
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
        """A repository as somebody has it already."""
        self.repos[name] = Repo(private)
        self.add(name, "main", "first", {".gitattributes": b"*.onnx lfs\n", **files})
        return self.repos[name]

    def add(self, name: str, branch: str, title: str, files: dict[str, bytes], message: str = "") -> Commit:
        commits = self.repos[name].branches.setdefault(branch, [])
        content = "".join(f"{path}{hashlib.sha1(data).hexdigest()}" for path, data in sorted(files.items()))
        parent = commits[-1].id if commits else None
        made = hashlib.sha1(f"{parent}{title}{content}{len(commits)}".encode()).hexdigest()
        commits.append(Commit(made, title, message, dict(files), parent))
        return commits[-1]

    @property
    def commits(self) -> int:
        """How many were made by uploads, of all repositories and branches."""
        return sum(
            commit.title != "first"
            for repo in self.repos.values()
            for row in repo.branches.values()
            for commit in row
        )
