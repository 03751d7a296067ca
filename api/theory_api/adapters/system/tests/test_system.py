"""The machine's clock and names have the form that the ledger asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.system.ids import fresh
from theory_core import is_name


def test_now_has_27_bytes_and_is_utc() -> None:
    now = SystemClock().now()
    assert len(now.encode()) == 27
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", now)
    told = datetime.fromisoformat(now)
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)


async def test_sleep_lasts_at_least_as_long_as_asked() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.02)
    assert clock.monotonic() - before >= 0.02


def test_fresh_names_are_valid_and_differ() -> None:
    names = {fresh("o") for _ in range(1000)}
    assert len(names) == 1000
    assert all(is_name(name) and len(name) == 33 for name in names)
    assert is_name(fresh("a" * 31))
