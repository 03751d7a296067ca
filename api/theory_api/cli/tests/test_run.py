"""`theory run`: inputs from anywhere, one envelope on stdout, mistakes before anything starts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from theory_api.cli.tests.desk import Desk
from theory_core import validate_envelope

REF = "llm/litellm@1"
INPUTS = '{"task": "script", "text": "A tide mill works with the moon. It turns twice a day."}'


def test_stdout_is_the_envelope_alone_and_outputs_are_copied(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "copied"
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--out", str(out), "--json")
    printed = desk.theory(*words)
    assert printed.code == 0, printed.err
    assert printed.out.count("\n") == 1
    envelope = validate_envelope(printed.out.strip().encode())
    assert envelope["status"] == "success"
    assert (out / "outputs" / "script.json").is_file()
    assert (out / "outputs.json").is_file()


def test_inputs_come_from_files_and_stdin_alike(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = desk.file("inputs.json", f'{{"schema": "v1", "params": {INPUTS}}}')
    first = desk.theory("run", "--ref", REF, "--inputs-file", file, "--json")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(INPUTS.encode())))
    second = desk.theory("run", "--ref", REF, "--inputs", "-", "--json")
    cids = [[entry["cid"] for entry in run.json["outputs"]] for run in (first, second)]
    assert cids[0] == cids[1]


def test_a_person_reads_outputs_and_costs(desk: Desk) -> None:
    printed = desk.theory("run", "--ref", REF, "--inputs-json", INPUTS)
    assert printed.code == 0
    assert "script.json" in printed.out
    assert "reserved" in printed.out
    assert "run: succeeded" in printed.err


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        (["--inputs-json", '{"a": 1, "a": 2}'], "ERR_INPUTS", "duplicate"),
        (["--inputs-json", '{"a":\n1,}'], "ERR_INPUTS", "line 2"),
        (["--inputs-json", "[]"], "ERR_INPUTS", "not an object"),
        (["--inputs-file", "nothing.json"], "ERR_NOT_FOUND", "nothing.json"),
        (["--inputs-json", '{"task": 3}'], "ERR_INPUTS", "invalid inputs payload"),
        (["--mode", "fast"], "ERR_MODE_INVALID", "neither mock nor real"),
        (["--write-prefix", "/folder/{execution_id}/"], "ERR_BAD_FACET", "--out DIR"),
        (["--write-prefix", "/artifacts/x/"], "ERR_PREFIX_TEMPLATE", ""),
        (["--execution-id", "No Id"], "ERR_INPUTS", "execution id"),
        (["--attach", "text"], "ERR_INPUTS", "name=path"),
        (["--lane", "main", "--inputs-json", INPUTS], "ERR_IMAGE_UNPINNED", "not pinned"),
    ],
)
def test_a_mistake_is_an_error_envelope(
    desk: Desk, words: list[str], code: str, fragment: str
) -> None:
    printed = desk.theory("run", "--ref", REF, *words, "--json")
    assert printed.code == 1
    envelope = validate_envelope(printed.out.strip().encode())
    assert envelope["error"]["code"] == code
    assert fragment in envelope["error"]["message"]


def test_an_unknown_processor_is_named_with_those_that_are_near(desk: Desk) -> None:
    printed = desk.theory("run", "--ref", "llm/litelm@1", "--inputs-json", "{}")
    assert printed.code == 1
    assert REF in printed.err


@pytest.mark.scenario(86)
def test_mode_real_is_refused_in_ci(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    printed = desk.theory("run", "--ref", REF, "--mode", "real", "--inputs-json", INPUTS, "--json")
    assert printed.code == 1
    assert printed.json["error"]["code"] == "ERR_CI_SAFETY"
    assert printed.json["error"]["message"] == "Refusing to run mode=real in CI"


def test_the_deprecated_form_of_inputs_warns(desk: Desk) -> None:
    printed = desk.theory("run", "--ref", REF, "--inputs-jsonstr", "[]", "--json")
    assert "deprecated" in printed.err
    assert printed.code == 1
