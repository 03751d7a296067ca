"""The examiner fails a wrong processor, in the case that is meant and in no other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from theory_api.delivery.conformance.bench import Pace
from theory_api.delivery.conformance.kit import CASES, examine
from theory_api.delivery.conformance.report import Report
from theory_api.delivery.conformance.talk import Target
from theory_api.delivery.conformance.tests.crooked import SAMPLE, Crooked
from theory_core import TheoryError

PACE = Pace(silence_s=0.8, cancel_s=2, answer_s=1.2, linger_s=0.3, run_s=8)
BROAD = {"run.success"}
"""Without a run that succeeds there is little that other cases could judge."""


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def examined(short: Path, fault: str = "", **more: object) -> Report:
    server = Crooked(short, fault)
    async with server.serving():
        target = Target(str(server.socket))
        return await examine(target, SAMPLE, folder=short, pace=PACE, **more)  # type: ignore[arg-type]


async def test_a_processor_that_keeps_the_contract_passes_every_case(short: Path) -> None:
    report = await examined(short)
    assert [(v.id, v.seen) for v in report.verdicts if v.standing != "passed"] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [case.id for case in CASES if case.id not in BROAD])
async def test_each_fault_fails_the_case_that_is_meant_and_no_other(
    short: Path, fault: str
) -> None:
    # Silence takes its time in every run; only the server that breaks its rule is waited for.
    cases = [case.id for case in CASES if case.id == fault or case.id != "open.silence"]
    report = await examined(short, fault, only=cases)
    assert report.of("failed") == [fault]


async def test_a_processor_whose_run_fails_is_told_so(short: Path) -> None:
    assert "run.success" in (await examined(short, "run.success")).of("failed")


def test_every_case_has_an_id_of_its_own_and_names_its_rule() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.section and case.rule for case in CASES)


async def test_what_is_not_there_has_not_failed(short: Path) -> None:
    with pytest.raises(TheoryError, match="nothing answers") as caught:
        await examine(Target(str(short / "nobody.sock")), SAMPLE, folder=short, pace=PACE)
    assert caught.value.code == "ERR_HEALTH"


async def test_single_cases_are_chosen_by_id(short: Path) -> None:
    report = await examined(short, only=["run.ack"])
    assert report.of("passed") == ["run.ack"]
    with pytest.raises(TheoryError, match="no case"):
        await examined(short, only=["run.nothing"])


@pytest.mark.parametrize(
    ("fault", "cases"),
    [
        ("deaf", ["control.pause", "control.cancel", "control.dead"]),
        ("barren", ["mock.same", "mode.real"]),
        ("unindexed", ["receipt.index"]),
    ],
)
async def test_nothing_is_no_proof(short: Path, fault: str, cases: list[str]) -> None:
    report = await examined(short, fault, only=cases)
    assert report.of("failed") == cases
    assert (await examined(short, only=cases)).of("passed") == cases


@pytest.mark.parametrize("fault", ["unsaid.ack", "unsaid.envelope", "unsaid.receipt"])
async def test_a_digest_that_was_asked_for_is_due_in_each_place(short: Path, fault: str) -> None:
    cases = ["envelope.digest", "environment.image", "environment.pinned"]
    report = await examined(short, fault, only=cases)
    assert report.of("failed") == ["environment.pinned"]


async def test_a_server_that_is_in_no_image_names_none_anywhere(short: Path) -> None:
    report = await examined(short, "nameless", only=["environment.pinned"])
    assert report.of("failed") == ["environment.pinned"]
    assert report.verdicts[0].seen.endswith("/healthz None")
