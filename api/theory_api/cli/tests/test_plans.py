"""`theory plan`, `ledger`, `artifact`, `receipt`: over a plan that ran."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from theory_api.cli.tests.desk import PLAN, Desk
from theory_core import Chain, verify

STORY = "/world/local/story"


def outputs(desk: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.theory("plan", "show", "story", "--json").json["outputs"]
    return found


def test_a_plan_is_shown_with_its_costs_and_outputs(story: Desk) -> None:
    printed = story.theory("plan", "show", "story")
    assert printed.code == 0
    assert printed.out.startswith(f"{STORY}  completed  lane build\n")
    assert "script.json" in printed.out
    shown = story.theory("plan", "show", STORY, "--json").json
    assert shown["status"] == "completed"
    assert [step["status"] for step in shown["transitions"]] == ["succeeded"]


def test_a_finished_plan_waits_for_nothing(story: Desk) -> None:
    assert "every transition succeeded" in story.theory("plan", "why", "story").out
    assert story.theory("plan", "why", "story", "--json").json["waiting"] == []


def test_plans_are_listed_and_filtered(story: Desk) -> None:
    assert STORY in story.theory("plan", "list", "--status", "completed").out
    assert story.theory("plan", "list", "--status", "failed").out == "no plans\n"


def test_events_are_lines_of_json_from_any_seq_on(story: Desk) -> None:
    lines = story.theory("plan", "events", "story").out.splitlines()
    seqs = [json.loads(line)["event"]["seq"] for line in lines]
    assert seqs == list(range(1, len(lines) + 1))
    later = story.theory("plan", "events", "story", "--after", "3", "--follow").out.splitlines()
    assert later == lines[3:]


def test_an_export_verifies_anchored_by_a_head_that_was_kept(story: Desk, tmp_path: Path) -> None:
    file = tmp_path / "ledger.ndjson"
    assert story.theory("ledger", "export", "story", "--out", str(file)).code == 0
    assert file.read_text() == story.theory("ledger", "export", "story").out
    head = story.theory("ledger", "head", "story").out.strip()
    for source in (str(file), "story"):
        loose = story.theory("ledger", "verify", source)
        assert loose.code == 0
        assert loose.out.endswith("events, internally consistent, not anchored\n")
        anchored = story.theory("ledger", "verify", source, "--expect-head", head, "--json")
        assert anchored.code == 0
        assert anchored.json["anchored"] is True


@pytest.mark.scenario(21)
def test_a_tampered_export_is_named_and_ends_with_1(story: Desk, tmp_path: Path) -> None:
    data = story.theory("ledger", "export", "story").out.replace('"local"', '"vocal"', 1)
    (tmp_path / "bad.ndjson").write_text(data)
    printed = story.theory("ledger", "verify", str(tmp_path / "bad.ndjson"), "--json")
    assert printed.code == 1
    fault = {"seq": 1, "line": 1, "reason": "hash", "law": None, "member": None}
    assert (printed.json["fault"], printed.json["laws"]) == (fault, "not asked")


@pytest.mark.scenario(23)
def test_a_ledger_that_hides_a_settle_is_named_by_its_law(story: Desk, tmp_path: Path) -> None:
    lines = story.theory("ledger", "export", "story").out.splitlines()
    events = [json.loads(line)["event"] for line in lines]
    place = next(n for n, event in enumerate(events) if event["kind"] == "budget.settled")
    kept = [*events[:place], *events[place + 1 :]]
    sealed = Chain().append([{**event, "seq": seq} for seq, event in enumerate(kept, 1)])
    file = tmp_path / "hidden.ndjson"
    file.write_bytes(
        b"".join(b'{"event":%b,"hash":"%b"}\n' % (body, made.encode()) for body, made in sealed)
    )
    assert story.theory("ledger", "verify", str(file)).code == 0
    told = story.theory("ledger", "verify", str(file), "--laws")
    assert told.code == 1
    assert f"broken at seq {place + 1} (line {place + 1}): law execution-order" in told.out
    sound = story.theory("ledger", "verify", "story", "--laws")
    assert sound.code == 0
    assert sound.out.endswith("events, internally consistent, lawful, not anchored\n")


@pytest.mark.scenario(23, 25)
def test_a_head_of_another_history_is_not_met(story: Desk) -> None:
    head = story.theory("ledger", "head", "story").out.strip()
    seq, _, digest = head.partition(":")
    other = f"{seq}:{digest[:-1]}{'0' if digest[-1] != '0' else '1'}"
    printed = story.theory("ledger", "verify", "story", "--expect-head", other, "--json")
    assert printed.code == 1
    assert printed.json["fault"]["reason"] == "head"


def test_artifacts_are_listed_and_fetched_by_path(story: Desk, tmp_path: Path) -> None:
    attached = story.theory("artifact", "ls", "story", "/artifacts/attachments")
    assert "/artifacts/attachments/text" in attached.out
    text = (story.folder / "text.txt").read_text()
    assert story.theory("artifact", "get", "story", "/artifacts/attachments/text").out == text
    target = tmp_path / "deep" / "copy.txt"
    path = f"world://local/story{outputs(story)[0]['path']}"
    assert story.theory("artifact", "get", "story", path, "--out", str(target)).code == 0
    assert target.stat().st_size == outputs(story)[0]["size_bytes"]
    assert os.listdir(target.parent) == ["copy.txt"]  # noqa: PTH208 - hidden files too


def test_a_file_that_cannot_be_written_is_an_error_of_storage(story: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = str(tmp_path / "file" / "copy.txt")
    printed = story.theory(
        "artifact", "get", "story", "/artifacts/attachments/text", "--out", target
    )
    assert printed.code == 1
    assert printed.err.startswith("error ERR_STORAGE")


def test_receipts_are_compared_by_their_stable_fields(story: Desk, tmp_path: Path) -> None:
    execution = outputs(story)[0]["execution_id"]
    address = f"{STORY}/artifacts/execution/{execution}/determinism.json"
    same = story.theory("receipt", "diff", address, address)
    assert (same.code, same.out) == (0, "no difference in the stable fields\n")
    receipt = json.loads(story.theory("artifact", "get", "story", address).out)
    changed = {**receipt, "mode": "real", "timestamp_utc": "another time", "execution_id": "x2"}
    (tmp_path / "other.json").write_text(json.dumps(changed))
    words = ("receipt", "diff", address, str(tmp_path / "other.json"), "--ignore", "execution_id")
    printed = story.theory(*words, "--json")
    assert printed.code == 1
    assert printed.json["differences"] == [{"field": "mode", "left": "mock", "right": "real"}]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_what_is_no_receipt_is_refused(desk: Desk, text: str) -> None:
    file = desk.file("not.json", text)
    printed = desk.theory("receipt", "diff", file, file, "--json")
    assert printed.code == 1
    assert printed.json["code"] == "ERR_INPUTS"


def test_applying_the_same_document_again_repeats_nothing(story: Desk) -> None:
    before = story.theory("ledger", "head", "story").out
    words = ("plan", "apply", str(story.folder / "plan.yaml"))
    printed = story.theory(*words, "--attach", f"text={story.folder / 'text.txt'}")
    assert printed.code == 0
    assert "has ended before; nothing runs again" in printed.err
    assert story.theory("ledger", "head", "story").out == before


def test_another_document_of_the_same_name_is_a_conflict(story: Desk, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace("60000", "60001"))
    attach = f"text={story.folder / 'text.txt'}"
    printed = story.theory(
        "plan", "apply", str(tmp_path / "plan.yaml"), "--attach", attach, "--json"
    )
    assert printed.code == 1
    assert printed.json["code"] == "ERR_CONFLICT"


@pytest.mark.parametrize(
    "steer", [["cancel", "story"], ["pause", "story"], ["topup", "story", "cpu_ms=1"]]
)
def test_an_ended_plan_cannot_be_steered(story: Desk, steer: list[str]) -> None:
    before = story.theory("ledger", "head", "story").out
    printed = story.theory("plan", *steer, "--json")
    assert printed.code == 1
    assert printed.json["code"] == "ERR_CONFLICT"
    assert story.theory("ledger", "head", "story").out == before


@pytest.mark.parametrize(
    ("text", "line"),
    [("schema: theory.plan.v1\nplan: [\n", "3"), ("plan: a\nplan: b\n", "2"), ("", "1")],
)
def test_a_malformed_document_is_refused_with_its_line(desk: Desk, text: str, line: str) -> None:
    printed = desk.theory("plan", "apply", desk.file("bad.yaml", text), "--json")
    assert printed.code == 1
    assert printed.json["code"] == "ERR_PLAN_INVALID"
    assert str(printed.json["detail"]["line"]) == line


@pytest.mark.parametrize(
    ("attach", "code"),
    [(["text"], "ERR_INPUTS"), (["text=nothing.txt"], "ERR_NOT_FOUND"), ([], "ERR_PLAN_INVALID")],
)
def test_an_attachment_that_is_not_there_is_named(desk: Desk, attach: list[str], code: str) -> None:
    words = [word for pair in attach for word in ("--attach", pair)]
    printed = desk.theory("plan", "apply", str(desk.folder / "plan.yaml"), *words, "--json")
    assert printed.code == 1
    assert printed.json["code"] == code


def test_the_verifier_agrees_with_the_command(story: Desk) -> None:
    report = verify(story.theory("ledger", "export", "story").out.encode())
    assert report.ok
    assert story.theory("ledger", "verify", "story").out == report.verdict + "\n"


def test_any_address_of_the_world_is_shown(story: Desk) -> None:
    listed = story.theory("world", f"{STORY}/artifacts/attachments/")
    assert listed.out.splitlines()[0].split() == ["artifact", "bytes", "type", "digest"]
    assert "/artifacts/attachments/text" in listed.out
    budget = story.theory("world", "world://local/story/plan/budget")
    assert (budget.code, budget.json["kind"]) == (0, "budget")
    empty = story.theory("world", f"{STORY}/streams/")
    assert (empty.code, empty.out) == (0, f"nothing at {STORY}/streams/\n")
    assert story.theory("world", f"{STORY}/streams/", "--json").json["value"] == {
        "streams": [],
        "next_after": None,
    }
    absent = story.theory("world", f"{STORY}/streams/a")
    assert (absent.code, absent.err[:19]) == (1, "error ERR_NOT_FOUND")
