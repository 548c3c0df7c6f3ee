"""A server of files, whole or in ranges, in a process of its own: rasterio keeps Python's lock while it opens."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

# A first part of a path that is one of these is what the server answers, and nothing else.
ANSWERS = {"401", "403", "500", "503"}


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    range: str
    status: int


class Server:
    """A folder that is served, and what was asked of it."""

    def __init__(self, url: str, root: Path, log: Path) -> None:
        """Take the address of a running server, the folder that it serves and its list of requests."""
        self.url, self.root, self.log = url, root, log
        self._read = 0

    def asked(self) -> list[Asked]:
        """Return the requests since this was called last."""
        lines = self.log.read_text().splitlines()
        new, self._read = lines[self._read :], len(lines)
        return [Asked(method, path, span, int(status)) for method, path, span, status in map(str.split, new)]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the folder ``root`` of a folder, which is made, and write requests into a file beside it."""
    root, log = folder / "root", folder / "requests"
    root.mkdir()
    log.touch()
    process = subprocess.Popen([sys.executable, __file__, root, log], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Server(process.stdout.readline().strip(), root, log)
    finally:
        process.terminate()
        process.communicate()


class Handler(BaseHTTPRequestHandler):
    """What answers a request."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Say how long a file is."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        told, found = self.headers.get("Range"), self._found()
        status = found if isinstance(found, int) else 206 if told else 200
        data = found if isinstance(found, bytes) else b""
        first, last = span(told, len(data)) if told and data else (0, len(data) - 1)
        with Path(sys.argv[2]).open("a") as log:
            log.write(f"{self.command} {self.path} {told or '-'} {status}\n")
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])

    def _found(self) -> bytes | int:
        """Return what lies under a path, or the status that says why it is not sent."""
        parts = urlsplit(self.path)
        answer, _, rest = unquote(parts.path).lstrip("/").partition("/")
        if answer in ANSWERS:
            return int(answer)
        # Stands for addresses that are good only with their signature.
        if answer == "signed":
            answer, _, rest = rest.partition("/")
            if parse_qs(parts.query) != {"key": ["a b"]}:
                return 403
        file = Path(sys.argv[1]) / answer / rest
        return file.read_bytes() if file.is_file() else 404

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def span(told: str, size: int) -> tuple[int, int]:
    """Return the first and last byte that a Range header asks for."""
    first, _, last = told.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last or size), size - 1)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
