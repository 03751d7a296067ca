"""A suite is run as it is, its failures are facts, and a hostile tar or report gets nowhere."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from theory_core import TheoryError

REF = "ci/pytest@1"
GOOD = """
import os, socket, tempfile

def test_adds():
    assert 1 + 1 == 2

def test_has_no_state_of_ours(tmp_path):
    assert set(os.environ) <= {
        "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CI", "COLUMNS",
        "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_CURRENT_TEST", "PYTEST_VERSION",
        "THEORY_RUN_DIR",
    }
"""
BAD = """
import pytest

def test_fails(tmp_path):
    assert object() is tmp_path

def test_breaks():
    raise RuntimeError("\\x00 <&> ]]> é")

@pytest.mark.skip(reason="later")
def test_later():
    pass

@pytest.fixture
def broken():
    raise ValueError("no fixture")

def test_errs(broken):
    pass
"""


def tar(files: dict[str, str], *more: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=form) as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for entry in more:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)) if entry.size else None)
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> Any:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.fixture
def suite(run: Any, artifact: Any) -> Any:
    def start(body: bytes, **params: Any) -> tuple[dict[str, Any], str, Any]:
        ran = run(REF, {"suite": artifact("/artifacts/suite.tar", body), **params})
        facts: dict[str, Any] = json.loads(ran.outputs["outputs/facts.json"])
        return facts, ran.outputs["outputs/junit.xml"].decode(), ran.frames

    return start


@pytest.fixture
def refusal(suite: Any) -> Any:
    def ask(body: bytes, **params: Any) -> str:
        with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
            suite(body, **params)
        assert caught.value.code == "ERR_INPUTS"
        return str(caught.value.detail["reason"])

    return ask


def test_what_a_suite_starts_carries_the_mark_of_its_run(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEORY_RUN_DIR", "/tmp/theory-run")  # noqa: S108 - a name, no file
    text = """
import os

def test_is_marked():
    assert os.environ["THEORY_RUN_DIR"] == "/tmp/theory-run"
"""
    facts, _, _ = suite(tar({"test_it.py": text}))
    assert facts["passed"] == 1


def test_a_suite_that_passes_says_so(suite: Any) -> None:
    facts, report, frames = suite(tar({"tests/test_good.py": GOOD}))
    assert facts["schema"] == "theory.tests.v1"
    assert (facts["exit_code"], facts["tests"], facts["passed"]) == (0, 2, 2)
    assert '<testcase classname="tests.test_good" name="test_adds"/>' in report
    assert any("2 passed" in content["message"] for _, content in frames)


def test_failures_errors_and_skips_are_facts_of_a_run_that_succeeded(suite: Any) -> None:
    facts, report, _ = suite(tar({"test_bad.py": BAD}))
    counted = [facts[name] for name in ("tests", "passed", "failures", "errors", "skipped")]
    assert (facts["exit_code"], counted) == (1, [4, 0, 2, 1, 1])
    assert 'tests="4" failures="2" errors="1" skipped="1"' in report
    assert "&lt;&amp;&gt; ]]&gt; é" in report


def test_a_suite_that_cannot_be_collected_is_an_error_among_the_facts(suite: Any) -> None:
    facts, _, _ = suite(tar({"test_x.py": "import no_such_module"}))
    assert (facts["exit_code"], facts["errors"]) == (2, 1)


def test_a_tar_without_tests_has_none(suite: Any) -> None:
    facts, _, _ = suite(tar({"readme.txt": "hello"}))
    assert (facts["exit_code"], facts["tests"]) == (5, 0)


def test_the_same_suite_is_reported_in_the_same_bytes(suite: Any) -> None:
    body = tar({"test_bad.py": BAD, "test_good.py": GOOD})
    first, again = suite(body), suite(body)
    assert first[:2] == again[:2]
    for word in ('time="', "timestamp", "hostname", "work", "pytest-of", "0x7"):
        assert word not in first[1]


def test_only_what_is_asked_for_is_run(suite: Any) -> None:
    body = tar({"a/test_bad.py": BAD, "b/test_good.py": GOOD})
    assert suite(body, targets=["b"])[0]["tests"] == 2
    assert suite(body, targets=["b/test_good.py::test_adds"])[0]["tests"] == 1


@pytest.mark.parametrize("target", ["--version", "-x", "../up", "a/../../b", "/etc", "a\nb", ""])
def test_a_target_is_a_name_inside_the_suite(refusal: Any, target: str) -> None:
    assert refusal(tar({"test_good.py": GOOD}), targets=[target]) == "target_invalid"


@pytest.mark.scenario(64)
@pytest.mark.parametrize(
    "bad",
    [
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, "test_good.py"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("device", tarfile.CHRTYPE),
        entry("/etc/cron.d/x"),
        entry("../x"),
        entry("a/../../x"),
        entry("a//x"),
        entry("a/./x"),
        entry("a\\..\\x"),
        entry("a\nx"),
        entry("x" * 513),
        entry("test_good.py"),
        entry("test_good.py/inside"),
        entry("y" * 300),
    ],
)
def test_a_tar_with_anything_but_plain_files_inside_is_refused(
    refusal: Any, bad: tarfile.TarInfo
) -> None:
    assert refusal(tar({"test_good.py": GOOD}, bad)) == "tar_entry"


@pytest.mark.scenario(64)
def test_nothing_is_unpacked_of_a_tar_with_one_bad_entry(providers: Any, tmp_path: Path) -> None:
    archive = tmp_path / "suite.tar"
    archive.write_bytes(tar({"test_good.py": GOOD}, entry("../x")))
    with pytest.raises(TheoryError):
        providers(REF).unpack(archive, tmp_path / "suite")
    assert not (tmp_path / "suite").exists()


def test_what_is_unpacked_is_plain_and_cannot_be_executed(providers: Any, tmp_path: Path) -> None:
    archive = tmp_path / "suite.tar"
    run = entry("run.sh", size=3)
    run.mode = 0o6777
    archive.write_bytes(tar({"./a/b.txt": "x"}, run))
    providers(REF).unpack(archive, tmp_path / "suite")
    assert stat.S_IMODE((tmp_path / "suite/run.sh").stat().st_mode) == 0o600
    assert (tmp_path / "suite/a/b.txt").read_text() == "x"


def test_a_tar_that_is_too_much_is_refused(
    providers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, archive = providers(REF), tmp_path / "suite.tar"

    def reason(body: bytes) -> object:
        archive.write_bytes(body)
        with pytest.raises(TheoryError) as caught:
            provider.unpack(archive, tmp_path / "suite")
        return caught.value.detail["reason"]

    monkeypatch.setattr(provider, "MAX_FILES", 3)
    assert reason(tar({f"f{n}": "" for n in range(4)})) == "tar_too_many"
    whole = tar({"a": "x" * 4000})
    assert reason(whole[:2048]) == "tar_invalid"
    assert reason(b"no tar at all" * 100) == "tar_invalid"
    assert reason(b"\x1f\x8b" + bytes(600)) == "tar_invalid"
    monkeypatch.setattr(provider, "MAX_TAR_BYTES", 1000)
    assert reason(whole) == "tar_too_large"
    monkeypatch.setattr(provider, "MAX_TAR_BYTES", 2**30)
    with archive.open("wb") as file:
        os.truncate(file.fileno(), 2**30 + 1)
    with pytest.raises(TheoryError) as caught:
        provider.unpack(archive, tmp_path / "suite")
    assert caught.value.detail["reason"] == "tar_too_large"


def test_a_suite_that_hangs_is_ended(refusal: Any) -> None:
    text = "import time\ndef test_hangs():\n    time.sleep(600)\n"
    assert refusal(tar({"test_hangs.py": text}), timeout_s=3) == "suite_timeout"


def test_what_a_suite_leaves_running_holds_nothing_up(suite: Any) -> None:
    text = "import subprocess\ndef test_x():\n    subprocess.Popen(['sleep', '20'])\n"
    assert suite(tar({"test_x.py": text}))[0]["passed"] == 1


def test_a_suite_that_ends_pytest_has_no_report(refusal: Any) -> None:
    text = "import os\ndef test_x():\n    os._exit(0)\n"
    assert refusal(tar({"test_x.py": text})) == "suite_without_report"


@pytest.mark.parametrize(
    "report",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><testsuites>&x;</testsuites>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuites/>',
        "<testsuites>",
        "not xml",
        "",
    ],
)
def test_a_report_that_the_suite_made_up_is_refused(refusal: Any, report: str) -> None:
    conftest = f"""
import pytest
@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    with open(config.option.xmlpath, "w") as file:
        file.write({report!r})
"""
    files = {"conftest.py": conftest, "test_good.py": "def test_x(): pass"}
    assert refusal(tar(files)) == "report_invalid"


@pytest.mark.parametrize("instead", ["os.symlink('/etc/passwd', path)", "os.mkfifo(path)"])
def test_what_is_no_plain_file_is_no_report(refusal: Any, instead: str) -> None:
    conftest = f"""
import os, pytest
@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    path = config.option.xmlpath
    os.unlink(path)
    {instead}
"""
    files = {"conftest.py": conftest, "test_good.py": "def test_x(): pass"}
    assert refusal(tar(files)) == "report_invalid"


def test_a_suite_is_needed(run: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"suite": "x"})
    assert caught.value.detail == {"reason": "suite_missing"}
