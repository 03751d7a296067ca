"""`theory conformance`: what it examines, what it prints, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from theory_api.cli.tests.desk import Desk
from theory_api.delivery.conformance.kit import CASES
from theory_api.delivery.conformance.sample import NAME
from theory_api.delivery.conformance.tests.crooked import Crooked
from theory_api.delivery.conformance.tests.crooked_papers import FINGERPRINT, REF
from theory_api.delivery.snapshot import load_registry
from theory_api.tests.transports import PROCESSORS

SAMPLE = f"""\
schema: theory.conformance.v1
ref: {REF}
env_fingerprint: {FINGERPRINT}
params: {{say: the quick brown fox}}
"""


@pytest.fixture
def listening() -> Iterator[str]:
    """A processor that breaks one case, on a socket, in a thread of its own."""
    import asyncio  # noqa: PLC0415 - the command has its own loop
    import tempfile  # noqa: PLC0415 - a short path

    ready, done = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:
        server = Crooked(Path(folder), "run.close")

        async def serve() -> None:
            async with server.serving():
                ready.set()
                while not done.is_set():  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(0.01)

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        ready.wait(10)
        yield str(server.socket)
        done.set()
        thread.join(10)


def test_what_failed_and_what_was_seen_is_printed(desk: Desk, listening: str) -> None:
    sample = desk.file("sample.yaml", SAMPLE)
    cases = ["--case", "run.close", "--case", "run.ack"]
    printed = desk.theory("conformance", listening, "--sample", sample, *cases)
    assert printed.code == 1
    assert "failed  run.close" in printed.out
    assert "seen: closed with 1001" in printed.out
    assert f"{REF} at {listening}: 1 passed, 1 failed, 0 skipped" in printed.out


def test_a_program_reads_the_report_as_one_object(desk: Desk, listening: str) -> None:
    sample = desk.file("sample.yaml", SAMPLE)
    asked = ["conformance", listening, "--sample", sample, "--json"]
    printed = desk.theory(*asked, "--case", "run.ack")
    assert printed.code == 0
    assert printed.json["schema"] == "theory.conformance-report.v1"
    assert (printed.json["passed"], printed.json["failed"]) == (1, 0)
    assert printed.json["cases"][0]["id"] == "run.ack"


def test_what_the_sample_leaves_out_is_skipped_and_counts_if_asked(
    desk: Desk, listening: str
) -> None:
    sample = desk.file("sample.yaml", SAMPLE)
    asked = ["conformance", listening, "--sample", sample, "--case", "attach.gap"]
    assert desk.theory(*asked).code == 0
    assert desk.theory(*asked, "--strict").code == 1


def test_nobody_there_is_an_error_with_a_code(desk: Desk) -> None:
    sample = desk.file("sample.yaml", SAMPLE)
    printed = desk.theory("conformance", "./nobody.sock", "--sample", sample)
    assert printed.code == 1
    assert "ERR_HEALTH" in printed.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: theory.conformance.v2\n", "a sample begins with"),
        ("schema: theory.conformance.v1\ncolour: red\n", "colour is no member"),
        ("schema: theory.conformance.v1\nparams: {}\n", "names its ref"),
        ("schema: theory.conformance.v1\nref: a/b@1\n", "names its env_fingerprint"),
        ("schema: theory.conformance.v1\nparams: {a: {$file: nowhere}}\n", "cannot be read"),
        ("schema: theory.conformance.v1\nrefused: 5\n", "refused is an object"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_its_reason(
    desk: Desk, text: str, said: str
) -> None:
    sample = desk.file("sample.yaml", text)
    printed = desk.theory("conformance", "./nobody.sock", "--sample", sample)
    assert printed.code == 1
    assert "ERR_INPUTS" in printed.err
    assert said in printed.err


def test_without_a_sample_an_address_is_a_mistake_of_usage(desk: Desk) -> None:
    assert desk.theory("conformance", "ws://127.0.0.1:1/run").code == 2


def test_another_scheme_is_refused(desk: Desk) -> None:
    sample = desk.file("sample.yaml", SAMPLE)
    printed = desk.theory("conformance", "http://127.0.0.1:1/run", "--sample", sample)
    assert "ERR_INPUTS" in printed.err


def test_only_a_socket_has_a_folder(desk: Desk) -> None:
    assert desk.theory("conformance", "llm/litellm@1", "--folder-as", "/run/theory").code == 2


def without_samples(processors: Path) -> list[str]:
    """Processors whose sources lie there, and nothing that says how to examine them."""
    sources = {main.parent for main in processors.glob("*/*/[0-9]*/main.*")}
    lacking = sorted(folder for folder in sources if not (folder / NAME).is_file())
    return ["{}/{}@{}".format(*folder.parts[-3:]) for folder in lacking]


def test_a_processor_without_a_sample_is_named(desk: Desk) -> None:
    assert without_samples(PROCESSORS) == []
    for place in ("made/without/1", "made/with/1"):
        (desk.folder / "made" / place).mkdir(parents=True)
        (desk.folder / "made" / place / "main.py").touch()
    (desk.folder / "made" / "made" / "with" / "1" / NAME).touch()
    assert without_samples(desk.folder / "made") == ["made/without@1"]


def test_a_processor_that_cannot_be_examined_for_want_of_a_sample_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEORY_PROCESSORS", str(desk.folder))
    printed = desk.theory("conformance", "media/probe@1", "--json")
    assert (printed.code, printed.json["code"]) == (1, "ERR_NOT_FOUND")
    assert NAME in printed.json["message"]


AT_ONCE = 4
"""Examinations at the same time."""
ALWAYS = ["attach.gap", "viewers.slow"]
"""What a processor of few frames leaves out."""
SINGLE = ["doors.same"]
EGRESS = ["mode.real"]
LEFT_OUT = {
    "agent/planner@1": ALWAYS,
    "ci/pytest@1": ALWAYS,
    "git/clone@1": [*EGRESS, *ALWAYS],
    "http/check@1": [*SINGLE, *EGRESS, *ALWAYS],
    "llm/litellm@1": ALWAYS,
    "media/compose@1": [*SINGLE, *ALWAYS],
    "media/frames@1": ALWAYS,
    "media/probe@1": [*SINGLE, *ALWAYS],
    "media/shotlist@1": [*SINGLE, *ALWAYS],
    "text/embed@1": [*SINGLE, *ALWAYS],
    "tts/espeak@1": SINGLE,
}
"""Processors of the registry, and the cases that their samples cannot show."""


def test_every_processor_of_the_registry_is_examined() -> None:
    assert set(LEFT_OUT) == set(load_registry(PROCESSORS.parent / "registry").processors)


def examination(ref: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What a person would see who examines a processor."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("THEORY_")}
    if "THEORY_CACHE" in os.environ:
        told["THEORY_CACHE"] = os.environ["THEORY_CACHE"]
    words = ["--home", str(home), "conformance", ref, "--json"]
    return subprocess.run(
        [sys.executable, "-m", "theory_api.cli.main", *words],
        env=told,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def examined(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """The processors that tests ask for, a few at a time: an examination mostly waits."""
    home = tmp_path_factory.mktemp("examined")
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {call.params.get("ref") for call in calls if call is not None}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {ref: pool.submit(examination, ref, home) for ref in LEFT_OUT if ref in asked}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ref", LEFT_OUT)
def test_a_processor_of_the_registry_passes_by_its_reference(
    ref: str, examined: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = examined[ref].result()
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    skipped = [case["id"] for case in report["cases"] if case["standing"] == "skipped"]
    assert sorted(skipped) == sorted(LEFT_OUT[ref])
    assert (report["failed"], report["passed"]) == (0, len(CASES) - len(skipped))
