"""After kill -9 at any moment and a second run, nothing is lost, repeated or left behind."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from theory_api.tests.killing import (
    Home,
    kill,
    outputs,
    reserves,
    settles,
    spent,
    survivors,
    wait_for_start,
)
from theory_core import verify

TEXT = "A lamp burns in the harbour.\nNobody sails tonight.\nThe keeper writes it down.\n"
ROUNDS = int(os.environ.get("THEORY_KILLS", "20"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


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


def test_a_killed_run_ends_like_an_undisturbed_one(
    tmp_path: Path, text: Path, cache: Path, record_property: Callable[[str, object], None]
) -> None:
    undisturbed = Home(tmp_path / "undisturbed", cache, text)
    undisturbed.finish()
    seconds = Home(tmp_path / "timed", cache, text).finish()
    expected = outputs(undisturbed.ledger())
    assert expected
    seed = int(os.environ.get("THEORY_SEED", "0")) or random.SystemRandom().randrange(2**32)
    record_property("seed", seed)
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    for number in range(ROUNDS):
        moment = draw.uniform(0, seconds)
        home = Home(tmp_path / f"round-{number}", cache, text)
        process = home.start()
        if number == 0:  # one kill for certain where many outputs are under way
            wait_for_start(process, "media/frames@1")
            moment = draw.uniform(0, 0.5)
        time.sleep(moment)
        below = kill(process)
        left = survivors(below, within_s=5)
        assert not left, f"seed {seed}, round {number}, {moment:.3f} s: {left}"
        home.finish()
        _judge(home, expected, f"seed {seed}, round {number}, killed after {moment:.3f} s")


def _judge(home: Home, expected: object, label: str) -> None:
    """The laws, read from the ledger that an outsider would get."""
    export = home.ask("ledger", "export", "/world/local/media-generation")
    report = verify(export, laws=True)
    assert report.fault is None, (label, report)
    events = home.ledger()
    assert outputs(events) == expected, label
    assert set(reserves(events).values()) == {1}, label
    assert settles(events) == reserves(events), label
    endings = [e["kind"] for e in events if e["kind"].startswith("plan.")]
    assert endings.count("plan.completed") == 1, label
    shown = json.loads(home.ask("plan", "show", "/world/local/media-generation", "--json"))
    booked = {line["dimension"]: line["spent"] for line in shown["budget"]}
    total = spent(events)
    assert {name: booked[name] for name in total} == dict(total), label
    assert all(line["reserved"] == 0 for line in shown["budget"]), label
