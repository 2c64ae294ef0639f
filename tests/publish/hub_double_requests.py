"""The requests of `hub_double.py`: as much of the hub's HTTP API as huggingface_hub uses; a test double."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".bin")  # what the hub keeps by LFS
PART = 64_000  # bytes in one part of a large upload


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Any

    def log_message(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def serve(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        fault = self.find_fault(path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.cut == "middle":
            self.rfile.read(max(1, length // 2))
            return self.cut()
        body = (
            self.chunked()
            if "chunked" in self.headers.get("Transfer-Encoding", "")
            else self.rfile.read(length)
        )
        self.hub.requests.append(f"{self.command} {path}")
        if fault and fault.then:
            fault.then()
        elif fault and fault.status:
            return self.answer(fault.status, {"error": "asked for by the test"}, fault.headers)
        elif fault and fault.cut == "before":
            return self.cut()
        self.lost = bool(fault and fault.cut == "after")
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if not known and not path.startswith("/storage/"):  # an address of the storage is a key itself
            return self.answer(401, {"error": "Invalid username or password."})
        with self.hub.lock:
            for method, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split():
                    return getattr(self, name)(body, *map(unquote, found.groups()))
        return self.answer(404, {"error": f"the double has no {self.command} {path}"})

    def find_fault(self, path: str) -> Any:
        with self.hub.lock:
            for fault in self.hub.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def answer(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
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
        if given["organization"] not in self.hub.organisations:
            return self.answer(403, {"error": "You don't have the rights to create a model there"})
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            return self.answer(409, {"error": "You already created this model repo", **url})
        self.hub.make(name, {}, private=given.get("visibility") == "private" or bool(given.get("private")))
        return self.answer(200, url)

    def commits_of(self, name: str, revision: str) -> list | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        for row in repo.branches.values():
            for place, commit in enumerate(row):
                if commit.id == revision:
                    return row[: place + 1]
        if revision not in repo.branches:
            self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo.branches[revision]

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        if commits := self.commits_of(name, revision):
            files = commits[-1].files
            siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
            self.answer(200, {"id": name, "modelId": name, "sha": commits[-1].id, "siblings": siblings})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        repo = self.hub.repos[name]
        if branch in repo.branches:
            return self.answer(409, {"error": "Reference already exists"})
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        repo.branches[branch] = list(repo.branches[start])
        return self.answer(200, {})

    def history(self, body: bytes, name: str, revision: str) -> None:
        if commits := self.commits_of(name, revision):
            row = [
                {
                    "id": c.id,
                    "title": c.title,
                    "message": c.message,
                    "authors": [],
                    "date": "2025-01-01T00:00:00.000Z",
                }
                for c in reversed(commits)
            ]
            self.answer(200, row)

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if commits := self.commits_of(name, revision):
            row = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in commits[-1].files.items()
            ]
            self.answer(200, row)

    def discussions(self, body: bytes, name: str) -> None:
        found = [
            {
                "title": title, "num": place + 1, "author": {"name": "me"}, "status": "open",
                "createdAt": "2025-01-01T00:00:00.000Z", "isPullRequest": True,
                "repo": {"name": name, "type": "model"},
            }
            for place, title in enumerate(self.hub.repos[name].pulls)
        ]  # fmt: skip
        self.answer(200, {"discussions": found, "count": len(found), "start": 0})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        commits = self.commits_of(name, revision)
        if not commits:
            return None
        data = commits[-1].files.get(path)
        if data is None:
            return self.answer(404, {}, {"X-Error-Code": "EntryNotFound"})
        etag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commits[-1].id}
        return self.answer(200, data, etag)

    # ---- upload

    def validate(self, body: bytes) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if not self.commits_of(name, revision):
            return
        files = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith(LARGE) else "regular",
                "shouldIgnore": entry["path"] in self.hub.ignored,
                "oid": None,
            }
            for entry in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = []
        for entry in json.loads(body)["objects"]:
            oid, size = entry["oid"], entry["size"]
            if oid in self.hub.stored:
                objects.append({"oid": oid, "size": size})
                continue
            href, header = f"{self.hub.url}/storage/{oid}", {}
            if size > PART:
                count = -(-size // PART)
                header = {"chunk_size": str(PART)}
                header |= {f"{n:05d}": f"{self.hub.url}/storage/{oid}/part/{n}" for n in range(1, count + 1)}
            actions = {
                "upload": {"href": href, "header": header},
                "verify": {"href": f"{self.hub.url}/{name}.git/info/lfs/verify"},
            }
            objects.append({"oid": oid, "size": size, "authenticated": True, "actions": actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        if self.command == "POST":  # all parts are there
            parts = json.loads(body)["parts"]
            body = b"".join(self.hub.parts[oid, part["partNumber"]] for part in parts)
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer(400, {"error": "other content than announced"})
        self.hub.stored[oid] = body
        return self.answer(200, {})

    def part(self, body: bytes, oid: str, number: str) -> None:
        self.hub.parts[oid, int(number)] = body
        self.answer(200, {}, {"ETag": hashlib.md5(body).hexdigest()})

    def verify(self, body: bytes, name: str) -> None:
        given = json.loads(body)
        there = len(self.hub.stored.get(given["oid"], b"")) == given["size"]
        self.answer(200 if there else 404, {})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        commits = self.commits_of(name, revision)
        if not commits:
            return None
        header, *lines = [json.loads(line) for line in body.splitlines()]
        head, given = commits[-1], header["value"]
        if given.get("parentCommit") not in (None, head.id):
            return self.answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(head.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.stored:
                    return self.answer(400, {"error": f"{value['path']} was not uploaded"})
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        url, branch = f"{self.hub.url}/{name}", revision
        if self.query.get("create_pr"):
            self.hub.repos[name].pulls.append(given["summary"])
            branch = f"refs/pr/{len(self.hub.repos[name].pulls)}"
            self.hub.repos[name].branches[branch] = list(commits)
        made = self.hub.add(name, branch, given["summary"], files, given["description"])
        answer = {"success": True, "commitOid": made.id, "commitUrl": f"{url}/commit/{made.id}"}
        if branch != revision:
            answer["pullRequestUrl"] = f"{url}/discussions/{len(self.hub.repos[name].pulls)}"
        return self.answer(200, answer)


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("GET", f"/api/models/{NAME}", "info"),
    ("GET", f"/api/models/{NAME}/revision/(.+)", "info"),
    ("POST", f"/api/models/{NAME}/branch/(.+)", "branch"),
    ("GET", f"/api/models/{NAME}/commits/(.+)", "history"),
    ("GET", f"/api/models/{NAME}/tree/([^/]+)", "tree"),
    ("GET", f"/api/models/{NAME}/discussions", "discussions"),
    ("POST", f"/api/models/{NAME}/preupload/(.+)", "preupload"),
    ("POST", f"/api/models/{NAME}/commit/(.+)", "commit"),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", "batch"),
    ("POST", rf"/{NAME}\.git/info/lfs/verify", "verify"),
    ("PUT", r"/storage/(\w+)/part/(\d+)", "part"),
    ("PUT POST", r"/storage/(\w+)", "store"),
    ("GET HEAD", f"/{NAME}/resolve/([^/]+)/(.+)", "resolve"),
)
