"""SIGKILL in every window in which a process can die, on both databases: nothing lost or doubled.

F12, between the signing of a checkpoint and its publication, does not exist yet: nothing is signed.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import pytest

from theory_api.tests.postgres import Cluster
from theory_api.tests.siege import (
    Siege,
    Strike,
    at_random,
    at_window,
    besiege,
    inside_the_append,
    on_the_link,
)
from theory_api.tests.tables import Table

ROUNDS: Final = int(os.environ.get("THEORY_KILLS_WINDOW", "2"))
RANDOM: Final = int(os.environ.get("THEORY_KILLS", "20"))
"""Over both databases; a part of them is left to the command line (test_kill)."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 60 * (12 * ROUNDS + RANDOM))]

Windows = dict[str, list[Strike]]

ANYWHERE: Final[Windows] = {
    "F1 key read, nothing written": [at_window("key-read", 1)],
    "F5 committed, not answered": [at_window("created", 1)],
    "F8 result, before its settle": [at_window("returned", 4), at_window("noted", 4)],
    "F10 settled, not published": [at_window("settled", 3)],
    "F11 writing, naming and syncing of a file": [
        at_window("half-written", 8),
        at_window("unpacked", 3),
        at_window("packed", 3),
        at_window("unnamed", 3),
        at_window("unsynced", 8),
    ],
}
SQLITE: Final[Windows] = {
    "F2 head moved, nothing reserved": [at_window("moved", 3)],
    "F3 reserved, not committed": [at_window("reserved", 2)],
    "F4 COMMIT sent, answer unknown": [at_window("commit-sent", 2), at_window("commit-done", 2)],
    "F9 settle sent, answer lost": [at_window("settle-sent", 3), at_window("settle-done", 3)],
}
POSTGRESQL: Final[Windows] = {
    "F2 head moved, nothing reserved": [
        inside_the_append("ledger_event", "client"),
        inside_the_append("ledger_event", "backend"),
        inside_the_append("ledger_event", "server"),
    ],
    "F3 reserved, not committed": [
        inside_the_append("transition", "client"),
        inside_the_append("transition", "backend"),
        inside_the_append("transition", "server"),
    ],
    "F4 COMMIT sent, answer unknown": [
        on_the_link("budget.reserved", send=True, kill=True),
        on_the_link("budget.reserved", send=True, kill=False),
        on_the_link("budget.reserved", send=False, kill=True),
        on_the_link("budget.reserved", send=False, kill=False),
    ],
    "F9 settle sent, answer lost": [
        on_the_link("budget.settled", send=True, kill=True),
        on_the_link("budget.settled", send=True, kill=False),
        on_the_link("budget.settled", send=False, kill=True),
        on_the_link("budget.settled", send=False, kill=False),
    ],
}
LONGER_S: Final = {"F2": 0.3, "F3": 0.3, "F11": 0.6}
"""What a processor takes where a plan must last: for a lock to be taken, for files to be laid."""
PROCESSES: Final[Windows] = {
    "F6 dispatched, not acknowledged": [at_window("dispatched", 4)],
    "F7 artifacts written, no result": [at_window("written", 4)],
}


async def _each(siege: Siege, windows: Windows) -> list[tuple[str, int, int]]:
    """Every window so many times, its variants in turn: window, rounds, faults."""
    told = []
    for window, strikes in windows.items():
        faults = 0
        for number in range(ROUNDS):
            seconds = LONGER_S.get(window.split()[0], 0.0)
            strike = strikes[number % len(strikes)]
            faults += await siege.round(strike, window, seconds=seconds)
        told.append((window, ROUNDS, faults))
    return told


@pytest.mark.scenario(1, 2, 3)
async def test_a_server_killed_in_any_window_loses_and_doubles_nothing(
    tmp_path: Path,
    environment: dict[str, str],
    database: tuple[str, Cluster | None],
    draw: random.Random,
    table: Table,
) -> None:
    name, running = database
    here = SQLITE if running is None else POSTGRESQL
    faults, told = [], []
    for place, windows in (("inside", ANYWHERE | here), ("process", PROCESSES)):
        async with besiege(tmp_path, place, environment, draw, running) as siege:
            told += await _each(siege, windows)
            faults += siege.faults
    told.sort(key=lambda row: int(row[0].split()[0][1:]))
    title = f"Killed in every window, {name}"
    table(title, [("window", "rounds", "anomalies"), *told])
    assert not faults, "\n".join(faults)


@pytest.mark.scenario(3)
async def test_a_server_killed_at_random_moments_loses_and_doubles_nothing(
    tmp_path: Path,
    environment: dict[str, str],
    database: tuple[str, Cluster | None],
    draw: random.Random,
    table: Table,
) -> None:
    name, running = database
    rounds = max(1, RANDOM // 2 - RANDOM // 10)
    async with besiege(tmp_path, "inside", environment, draw, running) as siege:
        for number in range(rounds):
            siege.patient = number % 4 == 1
            await siege.round(at_random(1.5), "random")
    row = (name, rounds, len(siege.faults))
    table(f"Killed at random moments, {name}", [("database", "kills", "anomalies"), row])
    assert not siege.faults, "\n".join(siege.faults)
