"""The command line as a whole: options anywhere, one coded message a mistake, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import rich_click as click

from theory_api.cli.main import main, theory
from theory_api.cli.tests.desk import Desk
from theory_api.settings import VARIABLES


def test_help_names_every_command_and_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in theory.commands)
    flat = "".join(shown.split())
    assert all(variable in flat for variable, _ in VARIABLES.values())


def test_help_loads_neither_stores_nor_servers() -> None:
    program = (
        "import sys; from theory_api.cli.main import main; main(['--help']);"
        "heavy = {'alembic', 'litestar', 'sqlalchemy', 'uvicorn', 'theory_api.wiring'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["--home", "{home}", "plan", "list"], ["plan", "list", "--home", "{home}"]]
)
def test_options_of_the_process_stand_before_or_after(story: Desk, words: list[str]) -> None:
    home = str(story.folder / "home")
    story.capture.readouterr()
    assert main([word.format(home=home) for word in words]) == 0
    assert "/world/local/story" in story.capture.readouterr().out


def test_the_last_word_on_an_option_counts(story: Desk) -> None:
    printed = story.theory("plan", "list", "--home", str(story.folder / "nowhere"), "--json")
    assert printed.code == 1
    assert printed.json["code"] == "ERR_NOT_FOUND"


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["plan", "show"],
        ["plan", "topup", "story", "cpu_ms=many"],
        ["plan", "list", "--limit", "0"],
        ["ledger", "verify", "x", "--expect-head", "12"],
        ["run", "--ref", "a/b@1", "--inputs-json", "{}", "--inputs", "-"],
        ["run", "--ref", "a/b@1", "--inputs", "file.json"],
        ["run"],
        ["demo", "--model", "x"],
        ["receipt", "diff", "a", "b", "--ignore", "colour"],
    ],
)
def test_a_command_line_that_cannot_be_understood_ends_with_2(desk: Desk, words: list[str]) -> None:
    printed = desk.theory(*words)
    assert printed.code == 2
    assert printed.out == ""
    assert printed.err


def test_a_group_without_a_command_shows_its_help(desk: Desk) -> None:
    printed = desk.theory("plan")
    assert printed.code == 2
    assert "apply" in printed.out + printed.err


def test_an_error_says_its_code_and_what_to_do(desk: Desk) -> None:
    printed = desk.theory("plan", "show", "nothing")
    assert printed.code == 1
    assert printed.out == ""
    assert printed.err.startswith("error ERR_NOT_FOUND: ")
    assert "\n  what to do: " in printed.err


def test_an_error_for_programs_is_one_object_on_stdout(desk: Desk) -> None:
    printed = desk.theory("--json", "plan", "show", "nothing")
    assert printed.code == 1
    assert set(printed.json) == {"code", "message", "detail"}
    assert all(json.loads(line)["event"] for line in printed.err.splitlines())


def test_a_wrong_setting_names_its_variable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEORY_PARALLEL", "many")
    printed = desk.theory("plan", "list")
    assert printed.code == 1
    assert "THEORY_PARALLEL" in printed.err


def test_a_defect_is_logged_and_coded_and_shows_no_trace_to_people(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        message = "a defect"
        raise RuntimeError(message)

    monkeypatch.setitem(theory.commands, "broken", broken)
    printed = desk.theory("--json", "broken")
    assert printed.code == 1
    assert printed.json["code"] == "ERR_INTERNAL"
    logged = [json.loads(line) for line in printed.err.splitlines()]
    assert [line["event"] for line in logged] == ["error.ERR_INTERNAL"]
    assert "Traceback" not in printed.out


def test_a_reader_that_goes_away_ends_the_command_quietly(story: Desk) -> None:
    command = [sys.executable, "-m", "theory_api.cli.main", "--home", str(story.folder / "home")]
    script = " ".join([*command, "ledger", "export", "story"]) + " | head -c 10 > /dev/null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


def test_doctor_finds_what_is_wrong(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.folder / "empty"
    folder.mkdir()
    monkeypatch.setenv("THEORY_PROCESSORS", str(folder))
    monkeypatch.setenv("THEORY_REGISTRY", str(folder))
    printed = desk.theory("doctor", "--json")
    assert printed.code == 1
    standing = {finding["name"]: finding["standing"] for finding in printed.json}
    assert standing["processors"] == "wrong"
    assert standing["registry"] == "wrong"
    assert standing["home"] == "note"


def test_doctor_is_content_with_a_used_home(story: Desk) -> None:
    printed = story.theory("doctor")
    assert printed.code == 0, printed.out
    assert "1 plans" in printed.out
