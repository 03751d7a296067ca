"""Addresses of servers, and durable marks of what runs on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.marks import Marks
from theory_api.adapters.run_v1.uploads import Gate, TcpUploads
from theory_core import TheoryError


def test_an_address_is_a_scheme_and_a_host() -> None:
    assert Endpoint.at("https://a.modal.run/ignored?x").url == "https://a.modal.run"
    assert Endpoint.at("http://127.0.0.1:8000").dial().url == "ws://127.0.0.1:8000/run"
    assert Endpoint.at("https://a.modal.run").dial().url == "wss://a.modal.run/run"
    local = Endpoint.at("unix:///run/theory/run.sock")
    assert (local.socket, local.dial().socket) == ("/run/theory/run.sock",) * 2
    assert not Endpoint.at("https://a.modal.run").dial().one_server
    assert local.dial().one_server


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "https://", "https://user:pw@host", "http://h:port", "unix://", "//a"]
)
def test_other_text_is_no_address(url: str) -> None:
    with pytest.raises(TheoryError) as refused:
        Endpoint.at(url)
    assert refused.value.code == "ERR_ENDPOINT_MISSING"
    assert "pw" not in refused.value.message


def test_credentials_are_not_shown() -> None:
    endpoint = Endpoint.at("https://a.modal.run", {"Modal-Secret": "canary"})
    assert "canary" not in repr(endpoint)
    assert "canary" not in repr(endpoint.dial())


def test_a_mark_is_kept_until_it_is_removed(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "modal")
    assert marks.names() == ()
    assert marks.read("x1") is None
    marks.make("x1", {"ref": "a/b@1", "mode": "mock"})
    marks.make("x1", {"ref": "a/b@1", "mode": "real"})
    assert Marks(tmp_path / "modal").read("x1") == {"ref": "a/b@1", "mode": "real"}
    (tmp_path / "modal" / ".x2.part").write_bytes(b"half")
    assert marks.names() == ("x1",)
    marks.remove("x1")
    marks.remove("x1")
    assert marks.names() == ()


def test_a_mark_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    (tmp_path / "x1").write_bytes(b"{")
    with pytest.raises(TheoryError) as refused:
        marks.read("x1")
    assert refused.value.code == "ERR_STORAGE"
    with pytest.raises(TheoryError) as refused:
        Marks(tmp_path / "x1").make("x2", {})
    assert refused.value.code == "ERR_STORAGE"


async def test_a_gate_is_there_from_its_first_user_to_its_last() -> None:
    gate = Gate()
    intakes = MemoryIntakes(MemoryArtifacts())
    first, second = TcpUploads(gate, intakes), TcpUploads(gate, intakes)
    async with first.open("x1", expires_in_s=60) as one, second.open("x2", expires_in_s=60) as two:
        assert one.url.split("/")[2] == two.url.split("/")[2]
        assert one.url != two.url
    await first.close()
    await first.close()
    assert gate._doors is not None
    await second.close()
    assert gate._doors is None
    async with first.open("x3", expires_in_s=60):
        assert gate._doors is not None
    await first.close()


async def test_a_gate_that_nobody_reaches_from_elsewhere_opens_no_door_to_it() -> None:
    uploads = TcpUploads(Gate(), MemoryIntakes(MemoryArtifacts()), public=True)
    with pytest.raises(TheoryError) as refused:
        async with uploads.open("x1", expires_in_s=60):
            pass
    assert refused.value.code == "ERR_ADAPTER_INVOCATION"
    await uploads.close()
