"""Uploads and downloads: repeated where that helps, refused where they say so."""

from __future__ import annotations

import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from theory_core import TheoryError, canonicalize, digest
from theory_runtime import inputs, outputs
from theory_runtime.door import FolderDoor, HttpDoor
from theory_runtime.outputs import Reader, deliver, send_bytes
from theory_runtime.result import OutputItem
from theory_runtime.tests.conftest import PREFIX, Kept


@pytest.fixture
def door(short: Path, gateway: Kept) -> HttpDoor:
    assert gateway.requests == 0
    upload = {"url": "http://localhost/objects/", "headers": {}, "socket": str(short / "io.sock")}
    return HttpDoor(upload, delays_s=(0.01, 0.01, 0.01))


def problem(code: str) -> bytes:
    return canonicalize({"code": code, "status": 400})


def test_a_busy_store_is_asked_again(door: HttpDoor, gateway: Kept) -> None:
    gateway.refusals = [(503, problem("ERR_STORAGE")), (503, b"")]
    assert send_bytes(door, "outputs/ü x", b"data", "text/plain") == digest(b"data")
    assert gateway.objects == {"outputs/%C3%BC%20x": b"data"}
    assert gateway.requests == 3
    door.close()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (502, problem("ERR_OUTPUT_DUPLICATE"), "ERR_OUTPUT_DUPLICATE"),
        (502, problem("ERR_OUTPUT_PREFIX"), "ERR_OUTPUT_PREFIX"),
        (413, problem("ERR_TOO_LARGE"), "ERR_TOO_LARGE"),
        (502, problem("ERR_UPLOAD"), "ERR_UPLOAD"),
        (403, problem("ERR_FORBIDDEN"), "ERR_UPLOAD"),
        (302, b"", "ERR_UPLOAD"),
        (500, b"{", "ERR_UPLOAD"),
        (200, b"{}", "ERR_UPLOAD"),
    ],
)
def test_a_refusal_is_final(
    door: HttpDoor, gateway: Kept, status: int, body: bytes, expected: str
) -> None:
    gateway.refusals = [(status, body)]
    with pytest.raises(TheoryError) as caught:
        send_bytes(door, "outputs/a", b"data", "text/plain")
    assert caught.value.code == expected
    assert gateway.requests == 1
    door.close()


def test_tries_are_bounded(door: HttpDoor, gateway: Kept) -> None:
    gateway.refusals = [(503, b"")] * 9
    with pytest.raises(TheoryError) as caught:
        send_bytes(door, "outputs/a", b"data", "text/plain")
    assert (caught.value.code, gateway.requests) == ("ERR_UPLOAD", 4)
    door.close()


def test_a_digest_that_the_other_side_does_not_confirm_fails(door: HttpDoor, gateway: Kept) -> None:
    gateway.refusals = [(201, canonicalize({"cid": digest(b"other")}))]
    with pytest.raises(TheoryError) as caught:
        send_bytes(door, "outputs/a", b"data", "text/plain")
    assert caught.value.detail["reason"] == "digest"
    door.close()


def test_nobody_there_is_an_upload_error(short: Path) -> None:
    upload = {"url": "http://localhost/", "headers": {}, "socket": str(short / "none.sock")}
    with pytest.raises(TheoryError) as caught:
        send_bytes(HttpDoor(upload, delays_s=()), "outputs/a", b"", "text/plain")
    assert caught.value.code == "ERR_UPLOAD"
    with pytest.raises(TheoryError) as caught:
        HttpDoor(upload).fetch("/inputs/x", lambda _piece: None)
    assert caught.value.code == "ERR_STORAGE"


class _Listener(BaseHTTPRequestHandler):
    """Keeps the headers of what it is asked for."""

    heard: list[str | None]

    def do_GET(self) -> None:
        self.heard.append(self.headers["Authorization"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Keep quiet."""


@pytest.mark.scenario(63)
def test_credentials_of_an_upload_go_to_its_own_place_alone() -> None:
    heard: list[str | None] = []
    handler = type("Handler", (_Listener,), {"heard": heard})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as own,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as other,
    ):
        for server in (own, other):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{own.server_port}/objects/"
        door = HttpDoor({"url": url, "headers": {"Authorization": "canary"}})
        for asked in ("/inputs/a", f"http://127.0.0.1:{other.server_port}/inputs/a"):
            door.fetch(asked, lambda _piece: None)
        door.close()
        for server in (own, other):
            server.shutdown()
    assert heard == ["canary", None]


def test_an_artifact_is_fetched_once_however_often_it_is_named(
    door: HttpDoor, gateway: Kept, short: Path
) -> None:
    cid = digest(b"data")
    gateway.inputs[cid] = b"data"
    artifact = {"path": "/a", "cid": cid, "size_bytes": 4, "mime": "x/y", "url": f"/inputs/{cid}"}
    params: dict[str, Any] = {"one": artifact, "more": [artifact, {"deep": artifact}]}
    local = inputs.localize(params, door, short / "inputs")
    assert local["one"]["local_path"] == local["more"][1]["deep"]["local_path"]
    assert Path(local["one"]["local_path"]).read_bytes() == b"data"
    assert len(list((short / "inputs").iterdir())) == 1
    assert inputs.hash_of({"params": params}) == inputs.hash_of(
        {"params": inputs.replace(params, lambda one: {**one, "url": "/elsewhere"})}
    )
    door.close()


@pytest.mark.scenario(58)
def test_a_file_that_shrinks_while_it_is_sent_is_not_sent_as_another(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with file.open("rb", buffering=0) as body:
        reader = Reader(body, 10)
        reader.read(4)
        os.truncate(file, 5)
        with pytest.raises(TheoryError) as caught:
            reader.read(6)
    assert caught.value.code == "ERR_STORAGE"


@pytest.mark.scenario(58)
def test_a_reader_digests_what_it_handed_out() -> None:
    reader = Reader(io.BytesIO(b"abcdef"), 3)
    assert reader.read(100) == b"abc"
    assert reader.read(100) == b""
    assert reader.digest() == digest(b"abc")
    reader.rewind()
    assert reader.digest() == digest(b"abc")


def code_of(
    items: list[OutputItem], door: FolderDoor, work_dir: Path, *, max_bytes: int
) -> str | None:
    """The code with which a delivery fails, or None."""
    try:
        deliver(items, door, write_prefix=PREFIX, work_dir=work_dir, max_bytes=max_bytes)
    except TheoryError as error:
        return error.code
    return None


@pytest.mark.scenario(57)
def test_no_link_is_followed_however_it_is_swapped_in(tmp_path: Path) -> None:
    """Each round either delivers the plain file or refuses; the link's target is never read."""
    work, out = tmp_path / "work", tmp_path / "out"
    (work / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"canary")
    (work / "plain").write_bytes(b"plain")
    (work / "link").symlink_to(tmp_path / "secret")
    target, stop = work / "sub" / "file", threading.Event()
    target.write_bytes(b"plain")

    def swap() -> None:
        while not stop.is_set():
            for source in ("link", "plain"):
                spare = work / "spare"
                if source == "link":
                    spare.symlink_to(tmp_path / "secret")
                else:
                    spare.write_bytes(b"plain")
                spare.replace(target)

    swapper = threading.Thread(target=swap)
    swapper.start()
    refused = 0
    try:
        for number in range(1500):
            items = [OutputItem("outputs/file", target, "text/plain")]
            door = FolderDoor(out / str(number))
            code = code_of(items, door, work, max_bytes=100)
            if code is not None:
                assert code in {"ERR_OUTPUT_PREFIX", "ERR_STORAGE"}
                refused += 1
            else:
                assert (out / str(number) / "outputs" / "file").read_bytes() == b"plain"
    finally:
        stop.set()
        swapper.join()
    assert 0 < refused < 1500


@pytest.mark.scenario(59)
def test_outputs_beyond_the_allowance_are_too_large(tmp_path: Path) -> None:
    items = [OutputItem(f"outputs/{name}", b"12345", "text/plain") for name in "abc"]
    for allowed, expected in ((15, None), (14, "ERR_TOO_LARGE")):
        door = FolderDoor(tmp_path / str(allowed))
        assert code_of(items, door, tmp_path, max_bytes=allowed) == expected


@pytest.mark.scenario(59)
def test_more_outputs_than_an_execution_may_have_are_too_large(tmp_path: Path) -> None:
    items = [OutputItem(f"outputs/{number}", b"", "text/plain") for number in range(100_001)]
    with pytest.raises(TheoryError) as caught:
        outputs.deliver(
            items,
            FolderDoor(tmp_path / "out"),
            write_prefix=PREFIX,
            work_dir=tmp_path,
            max_bytes=1,
        )
    assert caught.value.code == "ERR_TOO_LARGE"
    assert not (tmp_path / "out").exists()
