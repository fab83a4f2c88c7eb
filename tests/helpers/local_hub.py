"""A Hugging Face hub on this machine: repositories in memory, their commits, tokens.

It answers what `huggingface_hub` asks when it looks up, downloads, creates and uploads, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """One repository.

    Attributes:
        commits: the files of each commit, oldest first.
        tags: names of commits.
        private: only whoever has the hub's token sees it.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Add files to those of the newest commit; the name of the commit that this makes."""
        whole = {**(list(self.commits.values())[-1] if self.commits else {}), **files}
        facts = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(whole.items())]
        name = hashlib.sha1(json.dumps([len(self.commits), facts]).encode()).hexdigest()
        self.commits[name] = whole
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit names."""
        if revision == "main":
            return list(self.commits)[-1] if self.commits else None
        found = self.tags.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class LocalHub:
    """The hub while it runs.

    Attributes:
        address: for ``HF_ENDPOINT``.
        token: that of its only user.
        repositories: by name.
        asked: each request: its method and path.
    """

    address: str = ""
    token: str = "hf_of_the_tests"
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub on a free port of this machine."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # else its end takes 0.5 s
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _read(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            repo, kind, revision = found[1], found[2] or "revision", found[3] or "main"
            if (there := self._repository(repo)) is None:
                return
            commit = there.find(revision)
            if commit is None and revision != "main":
                self._fail(404, "RevisionNotFound")
                return
            files = there.commits.get(commit or "", {})
            if kind == "tree":
                self._json(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": _sha1(data)}
                        for name, data in files.items()
                    ]
                )
            else:
                siblings = [{"rfilename": name} for name in files]
                self._json({"id": repo, "sha": commit, "siblings": siblings, "private": there.private})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3])
        else:
            self._fail(404, "RepoNotFound")

    def _file(self, repo: str, revision: str, name: str) -> None:
        if (there := self._repository(repo)) is None:
            return
        commit = there.find(revision)
        if commit is None:
            self._fail(404, "RevisionNotFound")
        elif name not in there.commits[commit]:
            self._fail(404, "EntryNotFound")
        else:
            data = there.commits[commit][name]
            self._send(200, data, {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": commit})

    def _repository(self, repo: str) -> Repository | None:
        """The repository; if there is none, or it is private to others, that has been answered."""
        there = self.hub.repositories.get(repo)
        if there is None or (there.private and not self._known()):
            self._fail(404 if self._known() else 401, "RepoNotFound")
            return None
        return there

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self._known():
            self._fail(401, "")
        elif path == "/api/repos/create":
            facts = json.loads(body)
            name = "/".join(filter(None, [facts.get("organization") or "me", facts["name"]]))
            private = bool(facts.get("private")) or facts.get("visibility") == "private"
            there = self.hub.repositories.setdefault(name, Repository(private=private))
            if not there.commits:
                there.commit({".gitattributes": b""})
            self._json({"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            self._upload(found[1], found[2], body)
        else:
            self._fail(404, "RepoNotFound")

    def _upload(self, repo: str, step: str, body: bytes) -> None:
        if (there := self._repository(repo)) is None:
            return
        if step == "preupload":
            files = json.loads(body)["files"]
            self._json(
                {"files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]}
            )
            return
        lines = [json.loads(line) for line in body.decode().splitlines()]
        values = [each["value"] for each in lines if each["key"] == "file"]
        commit = there.commit({each["path"]: base64.b64decode(each["content"]) for each in values})
        self._json({"commitUrl": f"{self.hub.address}/{repo}/commit/{commit}", "commitOid": commit, "success": True})

    def _json(self, facts: Any) -> None:
        self._send(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
