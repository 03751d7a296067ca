"""Ends of a run that no worker can bring about by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from theory_core import TheoryError, loads_strict
from theory_runtime import run as run_module
from theory_runtime import server as server_module
from theory_runtime.bench import read_order
from theory_runtime.fault import fault, from_provider, reason_of
from theory_runtime.kin import Brood
from theory_runtime.reserve import Reserve
from theory_runtime.run import Place, Run
from theory_runtime.server import Runs
from theory_runtime.tests.conftest import MAIN


def made(tmp_path: Path, deed: str, **params: object) -> Run:
    file = tmp_path / "payload.json"
    file.write_text(json.dumps({"params": {"do": deed, **params}}))
    order = read_order(file, ref="test/deeds@1", out=tmp_path / "out", mode=None)
    place = Place(main_file=MAIN, ref="test/deeds@1", folder=tmp_path, confirm_s=1)
    return Run(order, place, Reserve(MAIN, tmp_path, Brood(), keeps=False))


async def outcome(run: Run) -> dict[str, Any]:
    await run.live()
    last = run.record.after(run.record.last - 1)
    assert last is not None
    assert last.final
    envelope: dict[str, Any] = loads_strict(last.text)["content"]
    return envelope


async def test_kin_that_cannot_be_ended_is_an_orphaned_execution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path, "echo")
    monkeypatch.setattr(Brood, "end", lambda _self, _leader, until: until < 0)
    envelope = await outcome(run)
    assert envelope["error"]["code"] == "ERR_ORPHANED"
    assert run.state == "failed"
    for worker in run._reserve._brood.workers.values():
        worker.wait()


async def test_a_kill_while_the_kernel_counts_one_more_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([3, 4])
    monkeypatch.setattr(run_module, "oom_kills", lambda: next(counts))
    envelope = await outcome(made(tmp_path, "kill", signal=9))
    assert envelope["error"] == {"code": "ERR_OOM", "message": "out of memory"}


async def test_a_work_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    envelope = await outcome(made(tmp_path, "echo"))
    assert envelope["error"]["code"] == "ERR_STORAGE"


async def test_a_stop_before_the_worker_is_there_still_counts(tmp_path: Path) -> None:
    run = made(tmp_path, "sleep")
    run.stop(fault("ERR_CANCELLED"))
    run.stop(fault("ERR_TIMEOUT"))
    envelope = await outcome(run)
    assert envelope["error"]["code"] == "ERR_CANCELLED"
    assert run.state == "cancelled"
    assert not (tmp_path / "work" / "local").exists()


async def test_an_abandoned_run_writes_no_receipt(tmp_path: Path) -> None:
    run = made(tmp_path, "deaf")
    run.stop(fault("ERR_CANCELLED"), at_once=True)
    await outcome(run)
    assert not (tmp_path / "out" / "receipt.json").exists()


async def test_a_result_is_kept_for_a_minute_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(Place(main_file=MAIN, ref="test/deeds@1", folder=tmp_path))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(100):
        run = made(tmp_path, "echo")
        run.ended_at = 900 + number
        runs._runs[f"x{number}"] = run
    runs._runs["running"] = made(tmp_path, "echo")
    runs._forget()
    # Of a hundred the 64 newest may stay for long, the others for the minute that is owed.
    kept = {f"x{number}" for number in range(36, 100)} | {"running"}
    assert set(runs._runs) == kept | {f"x{number}" for number in range(40, 100)}
    now = 990.0 + server_module.KEPT_S
    runs._forget()
    assert set(runs._runs) == {f"x{number}" for number in range(90, 100)} | {"running"}


def test_only_words_of_ours_become_a_reason() -> None:
    assert reason_of(TheoryError("ERR_INPUTS", "text", {"reason": "too_long"})) == "too_long"
    for reason in ("two words", "", "x" * 200, "line\nline", 5, None):
        assert reason_of(TheoryError("ERR_INPUTS", "text", {"reason": reason})) is None
    told = from_provider(TheoryError("ERR_PROVIDER", "secret text", {"reason": "rate_limit"}))
    assert (told.code, told.message) == ("ERR_PROVIDER", "provider call failed: rate_limit")
