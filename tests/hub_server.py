"""A server on this machine that answers as the Hugging Face hub does, and as a plain web server."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip archive of files by their paths, compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return written.getvalue()


def encrypted(archive: bytes) -> bytes:
    """Return a zip archive that says of its first file that it wants a password."""
    changed, entry = bytearray(archive), archive.index(b"PK\1\2")
    # The general purpose bits, in the file's own header and in the archive's list.
    changed[6] |= 1
    changed[entry + 8] |= 1
    return bytes(changed)


class HubServer:
    """What a test hub holds, how it misbehaves, and what it was asked.

    Its routes are those of huggingface_hub: ``HEAD`` and ``GET`` of
    ``/{owner}/{name}/resolve/{revision}/{file}``, after ``/datasets`` for
    datasets. Pages and redirects have other paths.
    """

    def __init__(self) -> None:
        """Start with nothing to serve and no ill will."""
        self.url = ""
        """Address, without a slash at its end."""
        self.files: dict[tuple[str, str], bytes] = {}
        """Bytes by repository (``owner/name``, ``datasets/owner/name``) and file."""
        self.pages: dict[str, bytes] = {}
        """Bytes by path, which starts with a slash and ends with the query."""
        self.redirects: dict[str, str] = {}
        """Addresses, or paths, by the path that leads to them."""
        self.gated: set[str] = set()
        """Repositories that are refused."""
        self.large_files = True
        """Whether the etag is a sha256 (as for large files) or a git hash."""
        self.damage: Literal["none", "truncate", "break off", "corrupt"] = "none"
        """How bodies are spoilt: a byte short and saying so, a byte short of the stated length, or altered.

        ``"break off"`` is for pages: huggingface_hub would resume for ever, as this server ignores ``Range``.
        """
        self.together: threading.Barrier | None = None
        """Where a body waits for other requests, or None."""
        self.requests: list[str] = []
        """Method and path of each request, in order."""

    def lookup(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a path of the hub or a page."""
        if path in self.redirects:
            return 302, {"Location": self.redirects[path]}, b""
        if path in self.pages:
            return 200, {}, self.pages[path]
        repo, resolve, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if not resolve:
            return 404, {}, b""
        if refusal := self._refusal(repo, revision, file):
            return 403 if refusal == "GatedRepo" else 404, {"X-Error-Code": refusal}, b""
        body = self.files[repo, file]
        return 200, self._file_headers(body), body

    def _refusal(self, repo: str, revision: str, file: str) -> str | None:
        if repo in self.gated:
            return "GatedRepo"
        if repo not in {known for known, _ in self.files}:
            return "RepoNotFound"
        if revision not in {"main", COMMIT}:
            return "RevisionNotFound"
        return None if (repo, file) in self.files else "EntryNotFound"

    def _file_headers(self, body: bytes) -> dict[str, str]:
        if self.large_files:
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Linked-Size": str(len(body))}
            return {"X-Repo-Commit": COMMIT, "ETag": '"of-the-storage"', **linked}
        git_hash = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
        return {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash}"'}

    def spoilt(self, body: bytes) -> tuple[bytes, int]:
        """Return a body as it is sent, and the length that is stated for it."""
        if self.damage == "truncate":
            return body[:-1], len(body) - 1
        if self.damage == "break off":
            return body[:-1], len(body)
        if self.damage == "corrupt":
            return bytes([body[0] ^ 1]) + body[1:], len(body)
        return body, len(body)


@contextmanager
def serve() -> Iterator[HubServer]:
    """Run a `HubServer` on a free port of 127.0.0.1 until the block ends."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status, headers, body = self._answer()
            self._send(status, headers, len(body))

        def do_GET(self) -> None:
            status, headers, body = self._answer()
            if status == 200 and hub.together is not None:
                hub.together.wait()
            sent, stated = hub.spoilt(body) if status == 200 else (body, len(body))
            self._send(status, headers, stated)
            self.wfile.write(sent)

        def _answer(self) -> tuple[int, dict[str, str], bytes]:
            hub.requests.append(f"{self.command} {self.path}")
            return hub.lookup(unquote(self.path))

        def _send(self, status: int, headers: dict[str, str], length: int) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
