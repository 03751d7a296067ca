"""The judge of the vectors, which anyone can run beside the wheel, is strict."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "vectors" / "judge.py"


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vectors_judge", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_every_vector_holds(judge: ModuleType) -> None:
    wrong = {
        f"{file}#{number}": problem
        for file in judge.files()
        for number, case in judge.cases(file).items()
        if (problem := judge.fault(file, case)) is not None
    }
    assert wrong == {}


def test_every_file_is_judged_and_has_cases_of_its_own(judge: ModuleType) -> None:
    files = {"events" if file.startswith("events/") else file for file in judge.files()}
    assert files == set(judge.JUDGES)
    assert all(judge.cases(file) for file in judge.files())


def turned(case: dict[str, Any]) -> dict[str, Any]:
    """The case with the opposite result."""
    if case["result"] == "valid":
        return {**case, "result": "invalid", "code": "ERR_INTERNAL"}
    return {**case, "result": "valid", "fault": None, "status": 200, "retryable": False}


def test_a_case_with_the_opposite_result_does_not_hold(judge: ModuleType) -> None:
    for file in judge.files():
        for number, case in judge.cases(file).items():
            if not (file == "chain/export" and case["result"] == "valid"):
                assert judge.fault(file, turned(case)) is not None, f"{file}#{number}"


def test_a_case_with_another_answer_does_not_hold(judge: ModuleType) -> None:
    answers = ("canonical", "digest", "sealed", "size_bytes", "hash", "phase", "status", "code")
    for file in judge.files():
        for number, case in judge.cases(file).items():
            answer = next((name for name in answers if name in case), None)
            if answer is not None and not (file == "errors/catalogue" and answer == "code"):
                wrong = {**case, answer: f"{case[answer]}x" if answer != "sealed" else [["", ""]]}
                assert judge.fault(file, wrong) is not None, f"{file}#{number}"


def test_the_command_names_what_it_judged() -> None:
    assert run("json/text#37", "path/join").stdout == "15 of 15 vectors hold\n"
    whole = run()
    assert (whole.returncode, whole.stderr) == (0, "")
    for unknown in ("json/text#9999", "json/none", "../README", "json/text#"):
        answer = run(unknown)
        assert (answer.returncode, answer.stderr) == (2, f"no such vector: {unknown}\n")


def test_the_command_fails_for_a_vector_that_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    document = json.loads((SCRIPT.parent / "json" / "doubles.json").read_text(encoding="ascii"))
    document["testGroups"][0]["tests"][0]["canonical"] = "1"
    (tmp_path / "json" / "doubles.json").write_text(json.dumps(document), encoding="ascii")
    (tmp_path / "judge.py").write_bytes(SCRIPT.read_bytes())
    command = [sys.executable, str(tmp_path / "judge.py")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr == "json/doubles#1: another answer: Zero\n"
    assert answer.stdout == "26 of 27 vectors hold\n"


def test_a_case_that_only_names_a_file_of_others_is_judged_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    named = {"tcId": 1, "comment": "theirs", "file": "n_a.json", "result": "invalid"}
    own = {**named, "tcId": 2, "comment": "ours", "text": "[", "code": "ERR_JSON_SYNTAX"}
    for name, tests in (("suite", [named]), ("decisions", [named, own])):
        document = {"testGroups": [{"type": "cases", "tests": tests}]}
        (tmp_path / "json" / f"{name}.json").write_text(json.dumps(document), encoding="ascii")
    (tmp_path / "judge.py").write_bytes(SCRIPT.read_bytes())
    command = [sys.executable, str(tmp_path / "judge.py")]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("1 of 1 vectors hold\n", "")
