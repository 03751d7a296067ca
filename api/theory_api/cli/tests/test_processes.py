"""Commands as processes: interrupted, resumed, steered, serving."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from theory_api.cli.tests.desk import Desk

pytestmark = pytest.mark.timeout(300)


def start(desk: Desk, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "theory_api.cli.main", "--home", str(desk.folder / "home")]
    return subprocess.Popen(
        [*command, *words],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_logs_one_object_a_line_and_each_event_once(desk: Desk) -> None:
    inputs = '{"task": "script", "text": "A lamp burns in the harbour."}'
    words = ("run", "--ref", "llm/litellm@1", "--inputs-json", inputs, "--json")
    out, log = start(desk, *words).communicate(timeout=120)
    assert json.loads(out)["status"] == "success"
    events = [json.loads(line)["event"] for line in log.splitlines()]
    once = (
        *("config.resolved", "execution.start", "adapter.invoke", "adapter.health.ok"),
        *("ws.connect.start", "ws.connect.ok", "ws.run.start", "ws.run.settle"),
        *("adapter.complete", "execution.settle"),
    )
    assert {event: events.count(event) for event in once} == dict.fromkeys(once, 1)
    assert "harbour" not in log


def test_an_interrupted_plan_is_steered_and_ends(desk: Desk, tmp_path: Path) -> None:
    text = desk.file("tale.txt", "A lamp burns in the harbour. The tide turns.\n")
    process = start(desk, "demo", text)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("generate-shotlist: started"):
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(seen) + rest
    assert "the same command goes on" in rest
    assert not psutil.wait_procs(children, timeout=5)[1]
    name = desk.theory("plan", "list", "--json").json["plans"][0]["plan"]
    waiting = desk.theory("plan", "why", name, "--json").json["waiting"]
    assert [row["transition"] for row in waiting][-1] == "compose-video"
    assert desk.theory("plan", "pause", name).out == f"{name}  paused\n"
    budget = desk.theory("plan", "topup", name, "cpu_ms=1000", "--json").json["budget"]
    assert {line["dimension"]: line["limit"] for line in budget}["cpu_ms"] == 351_000
    resumed = desk.theory("plan", "resume", name, "--json")
    assert resumed.code == 0
    assert resumed.json["status"] == "completed"
    done = desk.theory("demo", text, "--out", str(tmp_path / "film"), "--json")
    assert done.code == 0
    assert done.json["plan"] == name
    assert (tmp_path / "film" / "final.mp4").stat().st_size > 0
    assert done.json["tampered"]["seq"] == done.json["tampered"]["reported"]


def test_a_cancelled_plan_ends_and_the_same_text_gets_a_new_one(desk: Desk) -> None:
    text = desk.file("tale.txt", "One line.\n")
    process = start(desk, "demo", text)
    assert process.stderr is not None
    assert any("write-script: started" in line for line in process.stderr)
    process.kill()
    process.communicate()
    name = desk.theory("plan", "list", "--json").json["plans"][0]["plan"]
    cancelled = desk.theory("plan", "cancel", name, "--reason", "enough", "--json")
    assert cancelled.code == 0
    assert cancelled.json["status"] == "cancelled"
    assert all(line["reserved"] == 0 for line in cancelled.json["budget"])
    again = desk.theory("demo", text, "--json")
    assert again.code == 0
    assert again.json["plan"] == f"{name}-2"


def test_a_home_is_served_read_beside_and_let_go(desk: Desk) -> None:
    process = start(desk, "serve", "--port", "0", "--json")
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        assert httpx.get(told["url"] + "/healthz", timeout=10).status_code == 200
        assert Path(told["key_file"]).stat().st_mode & 0o077 == 0
        refused = desk.theory("plan", "apply", str(desk.folder / "plan.yaml"), "--json")
        assert refused.code == 1
        assert desk.theory("plan", "list").out == "no plans\n"
        attach = f"text={desk.folder / 'text.txt'}"
        words = ("plan", "apply", str(desk.folder / "plan.yaml"), "--attach", attach, "--json")
        second = desk.theory(*words)
        assert second.json["code"] == "ERR_NOT_WRITER"
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events.count("config.resolved") == 1


def test_an_address_that_others_reach_is_refused(desk: Desk) -> None:
    process = start(desk, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - refused
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ERR_INPUTS" in out + err
