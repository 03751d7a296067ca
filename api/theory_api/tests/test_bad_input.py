"""Whoever makes a mistake gets a code, a sentence and a settled budget, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from theory_core import verify

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = Path(__file__).parent / "hostile"

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, Any]:
        stated: dict[str, Any] = json.loads(self.out)
        found: dict[str, Any] = stated.get("error", stated)
        return found


@dataclass(frozen=True)
class Desk:
    """A home, a registry with a hostile processor, and the command line."""

    folder: Path
    env: dict[str, str]

    def theory(self, *words: str, timeout: float = 200) -> Done:
        command = [sys.executable, "-m", "theory_api.cli.main", "--home", str(self.folder / "home")]
        done = subprocess.run(
            [*command, *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def apply(self, document: dict[str, Any] | str, *, name: str = "plan.yaml") -> Done:
        file = self.folder / name
        text = document if isinstance(document, str) else json.dumps(document, indent=1)
        file.write_text(text, encoding="utf-8")
        return self.theory("plan", "apply", str(file), "--json")

    def events(self, plan: str) -> list[dict[str, Any]]:
        export = self.theory("ledger", "export", plan).out
        assert verify(export.encode(), laws=True).fault is None
        return [json.loads(line)["event"] for line in export.splitlines()]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Registry and processors as shipped, and the hostile one beside them."""
    base = tmp_path_factory.mktemp("places")
    shutil.copytree(ROOT / "registry", base / "registry")
    shutil.copytree(ROOT / "processors", base / "processors")
    spec = base / "registry" / "processors" / "test" / "hostile"
    spec.mkdir(parents=True)
    shutil.copy(HOSTILE / "spec.yaml", spec / "1.yaml")
    home = base / "processors" / "test" / "hostile" / "1"
    home.mkdir(parents=True)
    for name in ("main.py", "provider.py"):
        shutil.copy(HOSTILE / name, home / name)
    lock = ROOT / "processors" / "media" / "shotlist" / "1" / "requirements.txt"
    shutil.copy(lock, home / "requirements.txt")
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "THEORY_CACHE") if name in os.environ
    }
    return {
        **kept,
        "LANG": "C.UTF-8",
        "THEORY_REGISTRY": str(base / "registry"),
        "THEORY_PROCESSORS": str(base / "processors"),
    }


@pytest.fixture
def desk(tmp_path: Path, places: dict[str, str]) -> Desk:
    return Desk(tmp_path, places)


def plan(how: str, **changes: object) -> dict[str, Any]:
    """A plan of one hostile step."""
    step = {"processor_ref": "test/hostile@1", "mode": "mock", "inputs": {"how": how}}
    document = {
        "schema": "theory.plan.v1",
        "plan": "p1",
        "lane": "build",
        "budget": {"cpu_ms": 500_000, "latency_ms": 500_000},
        "transitions": {"step": step},
    }
    return {**document, **changes}


def steps(**transitions: dict[str, Any]) -> dict[str, Any]:
    filled = {
        name: {"processor_ref": "test/hostile@1", "mode": "mock", "inputs": {"how": "fine"}, **rest}
        for name, rest in transitions.items()
    }
    return plan("fine", transitions=filled)


REFUSED: list[tuple[str, dict[str, Any] | str, str, str]] = [
    (
        "unknown processor",
        steps(step={"processor_ref": "media/frame@1"}),
        "ERR_NOT_FOUND",
        "media/frames@1",
    ),
    ("malformed YAML", "schema: theory.plan.v1\nplan: [\n", "ERR_PLAN_INVALID", "plan.yaml:3:1"),
    ("duplicate name", "schema: theory.plan.v1\nschema: x\n", "ERR_PLAN_INVALID", "plan.yaml:2:1"),
    ("unknown member", plan("fine", colour="red"), "ERR_PLAN_INVALID", "colour"),
    (
        "cycle",
        steps(a={"depends_on": ["b"]}, b={"depends_on": ["a"]}),
        "ERR_PLAN_INVALID",
        "cycle",
    ),
    ("unknown dependency", steps(a={"depends_on": ["z"]}), "ERR_PLAN_INVALID", "'z'"),
    (
        "write set outside the plan",
        steps(a={"write_set": [{"kind": "prefix", "path": "/world/local/other/artifacts/"}]}),
        "ERR_PLAN_INVALID",
        "outside the plan",
    ),
    (
        "write prefix outside the World",
        steps(a={"write_prefix": "/var/{execution_id}/"}),
        "ERR_BAD_FACET",
        "write_prefix",
    ),
    (
        "inputs that do not fit the schema",
        steps(a={"inputs": {"how": 3}}),
        "ERR_INPUTS",
        "invalid inputs payload",
    ),
    (
        "process outside the build lane",
        plan("fine", lane="main"),
        "ERR_IMAGE_UNPINNED",
        "image not pinned",
    ),
    ("negative budget", plan("fine", budget={"cpu_ms": -1}), "ERR_PLAN_INVALID", "cpu_ms"),
    ("fractional budget", plan("fine", budget={"cpu_ms": 1.5}), "ERR_PLAN_INVALID", "cpu_ms"),
]


@pytest.mark.scenario(49, 65)
@pytest.mark.parametrize(
    ("document", "code", "fragment"),
    [row[1:] for row in REFUSED],
    ids=[row[0] for row in REFUSED],
)
def test_a_faulty_document_is_refused_with_its_place_and_leaves_no_plan(
    desk: Desk, document: dict[str, Any] | str, code: str, fragment: str
) -> None:
    done = desk.apply(document)
    assert done.code == 1
    assert done.error["code"] == code
    assert fragment in done.error["message"]
    listed = desk.theory("plan", "list", "--json")
    assert listed.code == 1 or json.loads(listed.out)["plans"] == []


def test_malformed_json_is_refused_with_its_line(desk: Desk) -> None:
    done = desk.apply('{"schema": "theory.plan.v1",\n "plan": }\n', name="plan.json")
    assert done.code == 1
    assert done.error["code"] == "ERR_PLAN_INVALID"
    assert "2" in done.error["message"]


@pytest.mark.scenario(65)
def test_a_budget_too_small_is_refused_before_anything_is_spent(desk: Desk) -> None:
    done = desk.apply(plan("fine", budget={"cpu_ms": 10}))
    assert done.code == 1
    assert done.error["code"] == "ERR_BUDGET_EXCEEDED"
    for fact in ("cpu_ms", "60000", "10"):
        assert fact in done.error["message"]
    kinds = [event["kind"] for event in desk.events("/world/local/p1")]
    assert kinds[-2:] == ["transition.refused", "plan.failed"]
    assert not {"budget.reserved", "execution.started"} & set(kinds)


HOSTILE_RUNS = [
    ("crash", "ERR_INTERNAL", 1),
    ("raise", "ERR_INTERNAL", 1),
    ("hang", "ERR_TIMEOUT", 2),
    ("duplicate", "ERR_OUTPUT_DUPLICATE", 1),
    ("escape", "ERR_OUTPUT_PREFIX", 1),
]
"""What it does, how that ends, and how many attempts are paid."""


@pytest.mark.scenario(50, 55, 73)
@pytest.mark.parametrize(("how", "code", "attempts"), HOSTILE_RUNS)
def test_a_hostile_processor_ends_in_its_code_and_a_settled_budget(
    desk: Desk, how: str, code: str, attempts: int
) -> None:
    done = desk.apply(plan(how))
    assert done.code == 1
    assert done.error["code"] == code
    events = desk.events("/world/local/p1")
    kinds = [event["kind"] for event in events]
    assert kinds[-1] == "plan.failed"
    reserved = [e["data"]["execution_id"] for e in events if e["kind"] == "budget.reserved"]
    settled = [e["data"]["execution_id"] for e in events if e["kind"] == "budget.settled"]
    assert reserved == settled
    assert len(reserved) == kinds.count("transition.retried") + 1 == attempts
    failed = [e for e in events if e["kind"] == "execution.failed"]
    assert [e["data"]["error"]["code"] for e in failed] == [code] * len(reserved)
    shown = json.loads(desk.theory("plan", "show", "/world/local/p1", "--json").out)
    assert all(line["reserved"] == 0 for line in shown["budget"])
    assert "canary-7f3a" not in done.out + json.dumps(events)


@pytest.mark.scenario(67)
def test_work_beyond_its_hold_is_stopped_and_booked_as_measured(desk: Desk) -> None:
    document = plan("burn")
    document["transitions"]["step"]["estimate"] = {"cpu_ms": 300, "latency_ms": 60_000}
    done = desk.apply(document)
    assert done.error["code"] == "ERR_BUDGET_EXCEEDED"
    settled = [e for e in desk.events("/world/local/p1") if e["kind"] == "budget.settled"]
    assert len(settled) == 1
    assert settled[0]["data"]["basis"]["cpu_ms"] == "measured"
    assert settled[0]["data"]["actual"]["cpu_ms"] > 300


def test_overlapping_write_sets_take_turns(desk: Desk) -> None:
    shared = {
        "write_set": [{"kind": "prefix", "path": "/artifacts/outputs/"}],
        "inputs": {"how": "fine", "seconds": 0.3},
    }
    done = desk.apply(steps(first=shared, second=shared))
    assert done.code == 0, (done.out, done.err)
    events = desk.events("/world/local/p1")
    turns = [e["kind"] for e in events if e["kind"] in {"lease.acquired", "lease.released"}]
    assert turns == ["lease.acquired", "lease.released"] * 2
