"""A server of S3, moto's, in a process of its own: rasterio keeps Python's lock while it opens.

A bucket whose name begins with ``sealed-`` may not be listed, as those are that only give out what is asked for by
name; one that begins with ``closed-`` may only be read.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from embedfield.formats.bucket import Bucket

SEALED, CLOSED = "sealed-", "closed-"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Cloud:
    """A running server."""

    def __init__(self, url: str) -> None:
        """Take its address."""
        self.url = url

    def environment(self) -> dict[str, str]:
        """Return what a person sets whose buckets are there."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def bucket(self, kind: str = "") -> str:
        """Make a bucket, and return its name."""
        name = f"{kind}{uuid4()}"
        request = urllib.request.Request(f"{self.url}/{name}", headers={"x-test-owner": "yes"}, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        return name


def upload(bucket: Bucket, folder: Path) -> None:
    """Put all that is in a folder into a bucket, but what is hidden."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "/." not in f"/{name}":
            bucket.put(name, path)


@contextmanager
def serving_s3() -> Iterator[Cloud]:
    """Run a server."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Cloud(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A server of S3, one for all tests of a process."""
    with serving_s3() as running:
        yield running


@pytest.fixture
def bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a new bucket, which the environment leads to."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    return cloud.bucket()


def guarded(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return an application of WSGI that denies what kinds of buckets do not allow."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
        owner = "HTTP_X_TEST_OWNER" in environ
        kept = bucket.startswith(SEALED) and reads and not key
        if not owner and (kept or (bucket.startswith(CLOSED) and not reads)):
            return denied(start)
        if owner or not bucket.startswith(SEALED):
            return application(environ, start)
        said: list[Any] = []
        body = application(environ, lambda *words: said.extend(words))
        # Who may not list does not learn what is not there.
        return denied(start) if said[0].startswith("404") else (start(*said[:2]), body)[1]

    return answer


def denied(start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer that something may not be done."""
    start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(DENIED)))])
    return [DENIED]


def main() -> None:
    """Serve until the process is ended."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").disabled = True
    application = guarded(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
