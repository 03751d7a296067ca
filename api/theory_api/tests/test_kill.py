"""After kill -9 at any moment and a second run, nothing is lost, repeated or left behind."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from theory_api.tests.killing import (
    PLAN,
    Home,
    kill,
    outputs,
    reserves,
    settles,
    short_film,
    spent,
    survivors,
    wait_for_start,
)
from theory_api.tests.postgres import Cluster
from theory_api.tests.tables import Table
from theory_core import verify

TEXT = "A lamp burns in the harbour.\nNobody sails tonight.\nThe keeper writes it down.\n"
ROUNDS = max(1, int(os.environ.get("THEORY_KILLS", "20")) // 10)
"""A tenth of all kills at random moments, on each database; test_windows has the others."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 120 * ROUNDS)]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Processor environments, made once; the configured ones where there are any."""
    configured = os.environ.get("THEORY_CACHE")
    return Path(configured) if configured else tmp_path_factory.mktemp("cache")


@pytest.mark.scenario(1, 3)
def test_a_killed_run_ends_like_an_undisturbed_one(
    tmp_path: Path,
    text: Path,
    cache: Path,
    database: tuple[str, Cluster | None],
    draw: random.Random,
    table: Table,
) -> None:
    name, running = database
    plan = short_film(tmp_path / "plan.json")

    def home(folder: str) -> Home:
        url = "" if running is None else running.database()
        return Home(tmp_path / folder, cache, text, plan, url)

    undisturbed = home("undisturbed")
    undisturbed.finish()
    seconds = home("timed").finish()
    expected = outputs(undisturbed.ledger())
    assert expected
    for number in range(ROUNDS):
        moment = draw.uniform(0, seconds)
        killed = home(f"round-{number}")
        process = killed.start()
        if number == 0:  # one kill for certain where many outputs are under way
            wait_for_start(process, "media/frames@1")
            moment = draw.uniform(0, 0.5)
        time.sleep(moment)
        below = kill(process)
        left = survivors(below, within_s=5)
        assert not left, f"round {number}, {moment:.3f} s: {left}"
        killed.finish()
        _judge(killed, expected, f"round {number}, killed after {moment:.3f} s")
    heads = ("database", "kills", "outputs that had to be alike", "anomalies")
    row = (name, ROUNDS, sum(expected.values()), 0)
    table(f"The command line killed at random moments, {name}", [heads, row])


def _judge(home: Home, expected: object, label: str) -> None:
    """The laws, read from the ledger that an outsider would get."""
    report = verify(home.ask("ledger", "export", PLAN), laws=True)
    assert report.fault is None, (label, report)
    events = home.ledger()
    assert outputs(events) == expected, label
    assert set(reserves(events).values()) == {1}, label
    assert settles(events) == reserves(events), label
    endings = [e["kind"] for e in events if e["kind"].startswith("plan.")]
    assert endings.count("plan.completed") == 1, label
    shown = json.loads(home.ask("plan", "show", PLAN, "--json"))
    booked = {line["dimension"]: line["spent"] for line in shown["budget"]}
    total = spent(events)
    assert {name: booked[name] for name in total} == dict(total), label
    assert all(line["reserved"] == 0 for line in shown["budget"]), label
