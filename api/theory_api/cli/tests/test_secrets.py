"""`theory secrets …`: says what is missing, sends what is there, and shows no value of either."""

from __future__ import annotations

from pathlib import Path

import grpclib
import pytest

from theory_api.cli.tests.cloud import Running
from theory_api.cli.tests.desk import Desk, Printed

NAME = "OPENAI_API_KEY"
CALLED = "theory-openai-api-key"
VALUE = "sk-canary-of-the-private-source"
OLD = "canary-1234567890"


@pytest.fixture
def source(desk: Desk) -> Path:
    """A private folder with one value for dev."""
    folder = desk.folder / "source"
    (folder / "dev").mkdir(mode=0o700, parents=True)
    write(folder / "dev" / NAME, f"{VALUE}\n")
    return folder


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    file.chmod(mode)


def shown(printed: Printed) -> Printed:
    """What was printed. Law: no value, old or new, is in it."""
    assert "canary" not in printed.out + printed.err
    return printed


def test_what_is_missing_is_said_environment_by_environment(
    desk: Desk, modal: Running, source: Path
) -> None:
    words = ("secrets", "check", "--from", str(source))
    printed = shown(desk.theory(*words, "--json"))
    assert printed.code == 1
    there = {"name": NAME, "source": True, "modal": "there", "missing": False, "optional": False}
    assert printed.json == [
        {"environment": "dev", **there},
        # The stand-in has no such environment.
        {
            "environment": "staging",
            **there,
            "source": False,
            "modal": "no such environment",
            "missing": True,
        },
        {"environment": "main", **there, "source": False},
    ]
    assert shown(desk.theory(*words, "--lane", "dev")).code == 0
    modal.cloud.secrets["dev", CALLED] = {"OTHER_KEY": OLD}
    printed = shown(desk.theory(*words, "--lane", "dev"))
    assert (printed.code, "without its key" in printed.out) == (1, True)
    del modal.cloud.secrets["dev", CALLED]
    printed = shown(desk.theory(*words, "--lane", "dev"))
    assert (printed.code, "missing" in printed.out) == (1, True)


def test_the_source_alone_needs_no_cloud(
    desk: Desk, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("secrets", "check", "--source-only", "--json")
    printed = shown(desk.theory(*words, "--lane", "dev", "--from", str(source)))
    assert (printed.code, printed.json[0]["modal"]) == (0, "")
    assert shown(desk.theory(*words, "--lane", "main", "--from", str(source))).code == 1
    monkeypatch.delenv(NAME, raising=False)
    assert shown(desk.theory(*words)).code == 1
    monkeypatch.setenv(NAME, VALUE)
    printed = shown(desk.theory(*words))
    assert printed.code == 0
    assert [one["environment"] for one in printed.json] == ["dev", "staging", "main"]


def test_a_secret_is_made_then_given_its_new_value(
    desk: Desk, modal: Running, source: Path
) -> None:
    words = ("secrets", "sync", "--lane", "dev", "--from", str(source))
    del modal.cloud.secrets["dev", CALLED]
    rehearsed = shown(desk.theory(*words, "--dry-run", "--json"))
    sent = {"environment": "dev", "name": NAME, "new": True}
    assert rehearsed.json == {"dry_run": True, "sent": [sent]}
    assert ("dev", CALLED) not in modal.cloud.secrets

    assert shown(desk.theory(*words, "--json")).json == {"dry_run": False, "sent": [sent]}
    assert modal.cloud.secrets["dev", CALLED] == {NAME: VALUE}
    modal.cloud.secrets["dev", CALLED] = {NAME: OLD, "OTHER_KEY": "kept"}
    assert "would be replaced" in shown(desk.theory(*words, "--dry-run")).out
    assert "replaced" in shown(desk.theory(*words)).out
    assert modal.cloud.secrets["dev", CALLED] == {NAME: VALUE, "OTHER_KEY": "kept"}
    assert modal.cloud.secrets["main", CALLED] == {NAME: OLD}


def test_the_environment_of_the_process_is_a_source(
    desk: Desk, modal: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, VALUE)
    monkeypatch.setenv("THEORY_LOG", "debug")
    printed = shown(desk.theory("secrets", "sync", "--lane", "main", "--only", NAME))
    assert printed.code == 0, printed.err
    assert "secrets.sync" in printed.err
    assert modal.cloud.secrets["main", CALLED] == {NAME: VALUE}


def test_nothing_is_sent_unless_all_of_it_is_there(
    desk: Desk, modal: Running, source: Path
) -> None:
    before = modal.cloud.secrets["main", CALLED]
    words = ("secrets", "sync", "--from", str(source), "--json", "--lane")
    lacking = shown(desk.theory(*words, "main"))
    assert (lacking.code, lacking.json["code"]) == (1, "ERR_MISSING_SECRET")
    assert NAME in lacking.json["message"]
    unknown = shown(desk.theory(*words, "dev", "--only", "SOMETHING"))
    assert (unknown.code, unknown.json["code"]) == (1, "ERR_INPUTS")
    assert modal.cloud.secrets["main", CALLED] == before
    assert modal.cloud.calls == []
    write_scope(source, "staging")
    for more in ((), ("--dry-run",)):
        nowhere = shown(desk.theory(*words, "staging", *more))
        assert (nowhere.code, nowhere.json["code"]) == (1, "ERR_ENDPOINT_MISSING")


def write_scope(source: Path, scope: str) -> None:
    (source / scope).mkdir(mode=0o700)
    write(source / scope / NAME, VALUE)


def test_a_cloud_that_refuses_is_told_without_a_value(
    desk: Desk, modal: Running, source: Path
) -> None:
    modal.cloud.failing["SecretGetOrCreate"] = grpclib.Status.PERMISSION_DENIED
    for words in (("sync", "--lane", "dev"), ("check", "--lane", "dev")):
        printed = shown(desk.theory("secrets", *words, "--from", str(source), "--json"))
        assert (printed.code, printed.json["code"]) == (1, "ERR_MODAL_INVOCATION")


@pytest.mark.parametrize(
    ("name", "text", "mode", "says"),
    [
        (NAME, VALUE, 0o640, "open to others"),
        (NAME, VALUE, 0o604, "open to others"),
        ("OPENAI_KEY", VALUE, 0o600, "not in secrets.yaml"),
        (NAME, "", 0o600, "empty"),
        (NAME, "\n", 0o600, "empty"),
        (NAME, f"{VALUE}\0", 0o600, "NUL"),
        (NAME, VALUE * 3000, 0o600, "too long"),
        (NAME, VALUE + "\udcff", 0o600, "not UTF-8"),
    ],
)
def test_a_source_that_is_not_private_or_does_not_fit_is_refused(
    desk: Desk, source: Path, name: str, text: str, mode: int, says: str
) -> None:
    write(source / "dev" / name, text, mode)
    words = ("secrets", "check", "--lane", "dev", "--source-only", "--from", str(source))
    printed = shown(desk.theory(*words, "--json"))
    assert (printed.code, printed.json["code"]) == (1, "ERR_INPUTS")
    assert says in printed.json["message"]


def test_a_folder_that_others_may_look_into_is_not_private(desk: Desk, source: Path) -> None:
    (source / "dev").chmod(0o750)
    words = ("secrets", "sync", "--lane", "dev", "--from", str(source), "--json")
    printed = shown(desk.theory(*words))
    assert (printed.code, printed.json["code"]) == (1, "ERR_INPUTS")
    assert desk.theory("secrets", "sync", "--from", str(source)).code == 2
    assert desk.theory("secrets", "check", "--from", str(source / "nowhere")).code == 2
