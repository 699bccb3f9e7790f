"""The part of the Hugging Face hub's interface that its client needs to make, fill and read a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """Repositories in memory; ``asked`` lists every request as (method, path)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[tuple[str, str]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        self._thread = Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def files(self, repo: str, revision: str = "main") -> tuple[str, dict[str, bytes]]:
        """The commit and its files; a KeyError where there is none."""
        commits = self.commits[repo]
        if revision in ("main", "HEAD"):
            return commits[-1]
        return next(commit for commit in commits if commit[0] == revision)

    def commit(self, repo: str, changes: dict[str, bytes | None]) -> str:
        files = dict(self.commits[repo][-1][1])
        for name, content in changes.items():
            files.pop(name, None)
            if content is not None:
                files[name] = content
        sha = hashlib.sha1(
            repr(sorted((n, hashlib.sha1(c).hexdigest()) for n, c in files.items())).encode()
        ).hexdigest()
        self.commits[repo].append((sha, files))
        return sha


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._describe(found[1], found[2] or "main")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(/.*)?", path):
            return self._list(found[1], found[2])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        return self._missing("RepoNotFound")

    def do_POST(self) -> None:
        self.server.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            given = json.loads(body)
            repo = f"{given['organization']}/{given['name']}" if given.get("organization") else f"me/{given['name']}"
            self.server.commits.setdefault(repo, [("0" * 40, {})])
            self.server.private.setdefault(repo, given.get("visibility") == "private" or bool(given.get("private")))
            return self._json({"url": f"{self.server.address}/{repo}"})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/[^/]+", self.path):
            names = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", self.path):
            return self._commit(found[1], body)
        return self._missing("RepoNotFound")

    def _describe(self, repo: str, revision: str) -> None:
        try:
            sha, files = self.server.files(repo, revision)
        except (KeyError, StopIteration) as error:
            return self._missing("RepoNotFound" if isinstance(error, KeyError) else "RevisionNotFound")
        siblings = [{"rfilename": name} for name in files]
        return self._json({"id": repo, "modelId": repo, "sha": sha, "siblings": siblings, "private": False, "tags": []})

    def _list(self, repo: str, revision: str) -> None:
        try:
            _, files = self.server.files(repo, revision)
        except (KeyError, StopIteration) as error:
            return self._missing("RepoNotFound" if isinstance(error, KeyError) else "RevisionNotFound")
        entries = [
            {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in files.items()
        ]
        return self._json(entries)

    def _file(self, repo: str, revision: str, name: str) -> None:
        try:
            sha, files = self.server.files(repo, revision)
        except (KeyError, StopIteration) as error:
            return self._missing("RepoNotFound" if isinstance(error, KeyError) else "RevisionNotFound")
        if name not in files:
            return self._missing("EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}
        return self._send(200, files[name], headers)

    def _commit(self, repo: str, body: bytes) -> None:
        changes: dict[str, bytes | None] = {}
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                changes[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                changes[entry["value"]["path"]] = None
        sha = self.server.commit(repo, changes)
        return self._json(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{self.server.address}/{repo}/commit/{sha}",
                "hookOutput": "",
            }
        )

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
