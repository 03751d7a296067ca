"""`theory run --adapter local-http`: a server that somebody started, and the bytes of any other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from theory_api.cli.tests.desk import Desk
from theory_api.tests.transports import PROCESSORS, short_folder

REF = "llm/litellm@1"
INPUTS = '{"task": "script", "text": "A tide mill works with the moon. It turns twice a day."}'


@pytest.fixture
def served() -> Iterator[Path]:
    """The folder of a processor's server."""
    held, lifeline = os.pipe()
    main = PROCESSORS / REF.replace("@", "/") / "main.py"
    with short_folder() as folder:
        place = folder / "llm-litellm-v1"
        place.mkdir()
        command = [sys.executable, str(main), "--serve", str(place), "--lifeline", str(held)]
        process = subprocess.Popen(command, pass_fds=(held,), cwd=place)
        os.close(held)
        until = time.monotonic() + 20
        while not (place / "run.sock").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        yield folder
        os.close(lifeline)
        assert process.wait(15) == 0


def test_a_server_of_this_machine_gives_the_bytes_of_a_child_process(
    desk: Desk, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEORY_LOCAL_URL", f"unix://{served}/{{slug}}/run.sock")
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--json")
    here = desk.theory(*words, "--execution-id", "here")
    monkeypatch.setenv("RUN_TARGET", "local-http")
    there = desk.theory(*words, "--execution-id", "there")
    assert (here.code, there.code) == (0, 0), there.err
    assert there.out.replace("/there/", "/here/").replace('"there"', '"here"') == here.out
    assert desk.theory("ledger", "verify", "run-there", "--laws").code == 0


def test_an_address_that_is_none_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEORY_LOCAL_URL", "ftp://nowhere")
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--adapter", "local-http", "--json")
    assert desk.theory(*words).json["error"]["code"] == "ERR_ENDPOINT_MISSING"
