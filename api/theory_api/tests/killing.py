"""Drive the real command line to its death and back: processes, homes, ledgers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "media-generation.yaml"
PLAN = "/world/local/short-film"
LEASE_S = 30.0
"""How long a second owner may wait for the lease of a dead one to run out."""


def short_film(file: Path) -> Path:
    """The shipped plan up to its frames, and few of them: everything but the encoding."""
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    del document["transitions"]["compose-video"]
    document["plan"] = "short-film"
    document["goal"] = document["goal"][1:]
    document["transitions"]["generate-shotlist"]["inputs"] |= {"width": 320, "height": 180}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Home:
    """A state folder and a database, and what all homes of a test run share."""

    path: Path
    cache: Path
    text: Path
    plan: Path
    database: str = ""
    """The address of a PostgreSQL; SQLite in the home without one."""

    def command(self, *words: str) -> list[str]:
        where = ["--database-url", self.database] if self.database else []
        program = [sys.executable, "-m", "theory_api.cli.main", "--home", str(self.path)]
        return [*program, *where, *words]

    def environment(self) -> dict[str, str]:
        names = ("PATH", "HOME", "PYTHONPATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return {**kept, "THEORY_CACHE": str(self.cache), "LANG": "C.UTF-8"}

    def start(self) -> subprocess.Popen[bytes]:
        words = ("plan", "apply", str(self.plan), "--attach", f"text={self.text}", "--json")
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> float:
        """Run the plan to its end, once nobody else owns the home; seconds that it took."""
        until = time.monotonic() + LEASE_S
        while True:
            began = time.monotonic()
            process = self.start()
            out, err = process.communicate(timeout=300)
            if b"ERR_NOT_WRITER" not in err or began > until:
                break
        assert process.returncode == 0, (out.decode()[-2000:], err.decode()[-4000:])
        return time.monotonic() - began

    def ask(self, *words: str) -> bytes:
        done = subprocess.run(
            self.command(*words),
            env=self.environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (done.stdout.decode()[-2000:], done.stderr.decode()[-2000:])
        return done.stdout

    def ledger(self) -> list[dict[str, Any]]:
        lines = self.ask("ledger", "export", PLAN).splitlines()
        return [json.loads(line)["event"] for line in lines]


def wait_for_start(process: subprocess.Popen[bytes], ref: str) -> None:
    """Return once the log says that an execution of this processor has started."""
    assert process.stderr is not None
    for line in process.stderr:
        record = json.loads(line)
        if record["event"] == "execution.start" and record["processor_ref"] == ref:
            return
    raise AssertionError(ref)


def kill(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """SIGKILL the control plane alone; the processes that had started below it."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return below


def survivors(below: list[psutil.Process], *, within_s: float) -> list[str]:
    """Command lines of processes that are still alive after the given time."""
    _, alive = psutil.wait_procs(below, timeout=within_s)
    return [" ".join(process.cmdline()) for process in alive if process.is_running()]


def outputs(events: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """(transition and path below the write prefix, cid) of what succeeded attempts produced."""
    succeeded = {e["data"]["execution_id"] for e in events if e["kind"] == "execution.succeeded"}
    found: Counter[tuple[str, str]] = Counter()
    for event in events:
        data = event["data"]
        if event["kind"] == "artifact.produced" and data.get("execution_id") in succeeded:
            for output in data["outputs"]:
                marker = f"/{data['execution_id']}/outputs/"
                if marker in output["path"]:
                    below = output["path"].split(marker, 1)[1]
                    found[f"{data['transition']}:{below}", output["cid"]] += 1
    return found


def spent(events: list[dict[str, Any]]) -> Counter[str]:
    """What the settles add up to, per dimension."""
    total: Counter[str] = Counter()
    for event in events:
        if event["kind"] == "budget.settled":
            total.update(event["data"]["actual"])
    return total


def settles(events: list[dict[str, Any]]) -> Counter[str]:
    """Execution -> settles and voids."""
    kinds = {"budget.settled", "budget.voided"}
    return Counter(e["data"]["execution_id"] for e in events if e["kind"] in kinds)


def reserves(events: list[dict[str, Any]]) -> Counter[str]:
    """Execution -> reservations."""
    return Counter(e["data"]["execution_id"] for e in events if e["kind"] == "budget.reserved")
