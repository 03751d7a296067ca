"""Heads kept elsewhere: a database that is behind them is read, and never written to.

Scenarios 12, 24 and 33 of the failures that the project survives, on the real command line.
"""

# ruff: noqa: ANN401 - answers differ

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from theory_api.cli.tests.desk import Desk
from theory_core import loads_strict

pytestmark = pytest.mark.timeout(300)

PLAN = "/world/local/story"


@pytest.fixture
def kept(finished: Path, desk: Desk) -> Desk:
    """A desk with a home of its own that holds the finished plan."""
    shutil.copytree(finished / "home", desk.folder / "home")
    return desk


def database(desk: Desk) -> Path:
    return desk.folder / "home" / "theory.db"


def copied(desk: Desk) -> Path:
    """The database as it is now, in one file elsewhere."""
    copy = desk.folder / "elsewhere.db"
    with sqlite3.connect(database(desk)) as connection, sqlite3.connect(copy) as target:
        connection.backup(target)
    connection.close()
    target.close()
    return copy


def put_back(desk: Desk, copy: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(str(database(desk)) + suffix).unlink(missing_ok=True)
    shutil.copyfile(copy, database(desk))


def heads(desk: Desk, patch: pytest.MonkeyPatch) -> dict[str, int]:
    """Write all heads down and have every further command compare them: plan -> seq."""
    file = desk.folder / "vault" / "heads"
    assert desk.theory("ledger", "head", "--out", str(file)).code == 0
    patch.setenv("THEORY_LEDGER_HEADS", str(file))
    lines = [loads_strict(line) for line in file.read_bytes().splitlines()]
    return {line["plan"]: line["seq"] for line in lines}


def events(desk: Desk) -> list[object]:
    """Every stored event; the digest of what nobody may have changed."""
    with sqlite3.connect(database(desk)) as connection:
        found = connection.execute("SELECT plan, seq, hash FROM ledger_event ORDER BY 1, 2")
        rows = found.fetchall()
    connection.close()
    return rows


def writers(desk: Desk) -> list[tuple[str, ...]]:
    """Every command that would write."""
    attach = f"text={desk.folder / 'text.txt'}"
    return [
        ("plan", "apply", str(desk.folder / "plan.yaml"), "--attach", attach),
        ("plan", "pause", "story"),
        ("run", "--ref", "llm/litellm@1", "--inputs-json", '{"task":"script","text":"A."}'),
        ("demo", str(desk.folder / "text.txt")),
        ("serve", "--port", "0"),
    ]


def refused(desk: Desk, words: tuple[str, ...], plan: str, known: int, found: int) -> None:
    """The command ends by saying which ledger is behind, and has written nothing."""
    before = events(desk)
    done = desk.theory(*words, "--json")
    judged(done.code, done.json, plan, known, found)
    assert events(desk) == before


def judged(code: int, told: Any, plan: str, known: int, found: int) -> None:
    assert code == 1
    error = told.get("error", told)  # a run answers with its envelope
    assert error["code"] == "ERR_CHAIN_REGRESSION"
    assert plan in error["message"]
    assert error.get("detail", {"plan": plan, "known": known, "found": found}) == {
        "plan": plan,
        "known": known,
        "found": found,
    }


def served(desk: Desk) -> tuple[int, Any]:
    """`theory serve` as a process of its own: its exit code and its last word."""
    home = str(desk.folder / "home")
    command = [sys.executable, "-m", "theory_api.cli.main", "--home", home, "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, json.loads(done.stdout)


def readable(desk: Desk, plan: str) -> None:
    """Questions are answered all the same."""
    assert desk.theory("plan", "list").code == 0
    assert desk.theory("plan", "show", plan).code == 0
    assert desk.theory("ledger", "verify", plan).code == 0
    assert desk.theory("ledger", "export", plan).code == 0
    assert desk.theory("ledger", "head").code == 0


@pytest.mark.scenario(12)
def test_scenario_12_a_replica_that_misses_the_last_commit_is_not_served(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept.folder / "two.yaml").write_text(
        (kept.folder / "plan.yaml").read_text().replace("plan: story", "plan: two")
    )
    replica = copied(kept)
    attach = f"text={kept.folder / 'text.txt'}"
    applied = kept.theory("plan", "apply", str(kept.folder / "two.yaml"), "--attach", attach)
    assert applied.code == 0
    known = heads(kept, monkeypatch)["/world/local/two"]
    put_back(kept, replica)
    judged(*served(kept), "/world/local/two", known, 0)
    readable(kept, "story")


@pytest.mark.scenario(24)
def test_scenario_24_a_ledger_whose_tail_somebody_cut_is_not_written_to(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = heads(kept, monkeypatch)[PLAN]
    with sqlite3.connect(database(kept)) as connection:
        connection.execute("DROP TRIGGER ledger_event_delete")
        connection.execute("DELETE FROM ledger_event WHERE seq > ?", (known - 3,))
        (last,) = connection.execute(
            "SELECT hash FROM ledger_event WHERE seq = ?", (known - 3,)
        ).fetchone()
        row = ("active", known - 3, last)
        connection.execute("UPDATE plan SET status = ?, head_seq = ?, head_hash = ?", row)
    connection.close()
    readable(kept, "story")
    for words in writers(kept):
        refused(kept, words, PLAN, known, known - 3)


@pytest.mark.scenario(33)
def test_scenario_33_yesterdays_backup_is_not_written_to_until_somebody_decides(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = copied(kept)
    yesterday = heads(kept, monkeypatch)
    words = ("run", "--ref", "llm/litellm@1", "--execution-id", "today", "--json")
    ran = kept.theory(*words, "--inputs-json", '{"task":"script","text":"A lamp."}')
    assert ran.json["status"] == "success"
    today = heads(kept, monkeypatch)
    assert yesterday.items() < today.items()
    put_back(kept, backup)
    plan = "/world/local/run-today"
    refused(kept, ("plan", "cancel", "story"), plan, today[plan], 0)
    readable(kept, "story")
    # The heads of what is there now say: this is what counts from here on.
    assert heads(kept, monkeypatch) == yesterday
    again = kept.theory(*words, "--inputs-json", '{"task":"script","text":"A lamp."}')
    assert again.json["status"] == "success"


@pytest.mark.scenario(23)
def test_another_event_in_the_place_of_a_kept_one_is_a_regression(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = heads(kept, monkeypatch)[PLAN]
    file = kept.folder / "vault" / "heads"
    line = loads_strict(file.read_bytes())
    file.write_text(json.dumps(line | {"hash": "b3:" + "0" * 64}) + "\n")
    refused(kept, ("plan", "pause", "story"), PLAN, known, known)


def test_heads_that_ledgers_have_grown_beyond_still_hold(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kept.folder / "vault" / "heads"
    heads(kept, monkeypatch)
    line = loads_strict(file.read_bytes())
    stored = kept.theory("ledger", "export", "story").out.splitlines()
    older = {"plan": PLAN, "seq": 5, "hash": json.loads(stored[4])["hash"]}
    assert line["seq"] > 5
    file.write_text(json.dumps(older) + "\n")
    assert kept.theory("plan", "pause", "story", "--json").json["code"] == "ERR_CONFLICT"


@pytest.mark.parametrize("content", [None, b"{", b'{"plan":"/world/a/b","seq":0,"hash":"b3:"}\n'])
def test_heads_that_cannot_be_read_are_not_passed_over(
    kept: Desk, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = kept.folder / "heads"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("THEORY_LEDGER_HEADS", str(file))
    told = kept.theory("plan", "pause", "story", "--json")
    assert (told.code, told.json["code"]) == (1, "ERR_INPUTS")
    assert str(file) in told.json["message"]


def test_doctor_says_whether_a_scheduler_would_start_over_these_ledgers(
    kept: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> tuple[str, str]:
        told = kept.theory("doctor", "--json")
        return next((row["standing"], row["text"]) for row in told.json if row["name"] == "heads")

    heads(kept, monkeypatch)
    assert found()[0] == "ok"
    lost = {"plan": "/world/local/lost", "seq": 3, "hash": "b3:" + "0" * 64}
    (kept.folder / "vault" / "heads").write_text(json.dumps(lost) + "\n")
    standing, text = found()
    assert (standing, text.split(":")[0]) == ("wrong", "ERR_CHAIN_REGRESSION")


def test_no_heads_hold_nothing(kept: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept.folder / "heads").touch()
    monkeypatch.setenv("THEORY_LEDGER_HEADS", str(kept.folder / "heads"))
    assert kept.theory("plan", "pause", "story", "--json").json["code"] == "ERR_CONFLICT"


def test_the_heads_of_all_plans_are_lines_of_canonical_json(kept: Desk) -> None:
    printed = kept.theory("ledger", "head").out.encode()
    (line,) = printed.splitlines()
    row = loads_strict(line)
    assert list(row) == ["hash", "plan", "seq"]
    assert kept.theory("ledger", "head", "story").out == f"{row['seq']}:{row['hash']}\n"
    assert kept.theory("ledger", "head", "story", "--out", "x").code == 2
