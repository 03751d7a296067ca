"""Whatever a container does, its run ends with one code, and nothing of it is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from theory_api.adapters.docker.tests.conftest import Bench
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.adapters.docker.transport import DockerPace
from theory_api.adapters.run_v1.health import HealthPace

pytestmark = pytest.mark.timeout(180)

Start = Callable[[str], str]

BROKEN = [
    ("nonsense", "ERR_WS_PROTOCOL"),
    ("binary", "ERR_WS_PROTOCOL"),
    ("wrong_kind", "ERR_WS_PROTOCOL"),
    ("wrong_seq", "ERR_WS_PROTOCOL"),
    ("too_large", "ERR_WS_PROTOCOL ERR_WS_CLOSE"),
    ("other_id", "ERR_WS_PROTOCOL"),
    ("extra", "ERR_ADAPTER_INVOCATION"),
    ("both", "ERR_ADAPTER_INVOCATION"),
    ("size_text", "ERR_ADAPTER_INVOCATION"),
    ("outputs_object", "ERR_ADAPTER_INVOCATION"),
    ("meta_text", "ERR_ADAPTER_INVOCATION"),
    ("outside", "ERR_OUTPUT_PREFIX"),
    ("other_index", "ERR_ADAPTER_INVOCATION"),
]


async def died(bench: Bench, how: str) -> tuple[Mapping[str, Any], int | None]:
    """The envelope of a run whose container ended by itself, and the exit code that was logged."""
    with capture_logs() as lines:
        envelope = await bench.run({"how": how})
    told = {"code": "ERR_INTERNAL", "message": "internal error: runtime ended"}
    assert envelope["error"] == told, envelope
    (line,) = [line for line in lines if line["event"] == "run.runtime.died"]
    return envelope, line["exit_code"]


@pytest.mark.scenario(55, 87)
@pytest.mark.parametrize(("how", "expected"), BROKEN, ids=[how for how, _ in BROKEN])
async def test_what_breaks_the_protocol_ends_with_its_code(
    bench: Bench, liar: Start, how: str, expected: str
) -> None:
    liar("listens")
    envelope = await bench.run({"how": how})
    assert code(envelope) in expected.split()
    assert "canary" not in str(envelope)


async def test_a_processor_that_speaks_first_is_not_heard(bench: Bench, liar: Start) -> None:
    liar("speaks_first")
    assert code(await bench.run({"how": "unpinned"})) == "ERR_WS_PROTOCOL"


@pytest.mark.scenario(20)
async def test_the_first_of_two_results_counts(bench: Bench, liar: Start) -> None:
    liar("listens")
    envelope = await bench.run({"how": "twice"})
    assert envelope["status"] == "success"
    assert bench.kinds().count("RunResult") == 1


@pytest.mark.scenario(78)
@pytest.mark.parametrize("how", ["never_listens", "dies", "plants_a_link"])
async def test_a_processor_that_never_answers_is_unhealthy(
    bench: Bench, liar: Start, how: str
) -> None:
    """A link where the socket should be is not followed: it might lead to the engine's own."""
    liar(how)
    bench.adapter._pace = DockerPace(health=HealthPace(budget_s=4))
    assert code(await bench.run({"how": "unpinned"})) == "ERR_HEALTH"


@pytest.mark.scenario(80)
async def test_a_fork_bomb_reaches_its_bound_and_is_ended_by_the_clock(
    bench: Bench, liar: Start
) -> None:
    liar("listens")
    envelope = await bench.run({"how": "fork_bomb"}, timeout_s=1)
    assert code(envelope) == "ERR_TIMEOUT"
    assert bench.adapter.measured("x1").usage["cpu_ms"] > 1000


@pytest.mark.scenario(77)
async def test_more_memory_than_declared_is_told_apart_from_a_kill(
    bench: Bench, liar: Start
) -> None:
    liar("listens")
    assert code(await bench.run({"how": "eat_memory"})) == "ERR_OOM"


@pytest.mark.scenario(80)
@pytest.mark.parametrize(
    "how", ["keeps_a_folder", "keeps_secrets", "keeps_a_file", "socket_is_a_folder"]
)
async def test_what_could_be_written_to_later_is_unhealthy(
    bench: Bench, liar: Start, how: str
) -> None:
    """A folder of its own stays open to it when the one around it is closed."""
    liar(how)
    assert code(await bench.run({"how": "unpinned"})) == "ERR_HEALTH"


@pytest.mark.scenario(80)
async def test_a_full_disk_is_the_containers_own(bench: Bench, liar: Start) -> None:
    liar("listens")
    before = _used(bench.home)
    envelope, left = await died(bench, "fill_disk")
    assert left == 9
    tail = envelope["meta"]["stderr_tail"]
    assert "Read-only file system" in tail
    assert "/run/theory [Errno 13] Permission denied" in tail
    assert _used(bench.home) - before < 100 << 20


@pytest.mark.scenario(79)
@pytest.mark.parametrize("how", ["flood_log", "talk_on"])
async def test_a_flood_of_logs_is_bounded_and_its_end_is_told(
    bench: Bench, liar: Start, how: str
) -> None:
    """Streams are copied apart: what was said last on the one may come before the other's end."""
    liar("listens")
    envelope = await bench.run({"how": how})
    assert code(envelope) == "ERR_INTERNAL"
    tail = envelope["meta"]["stderr_tail"]
    assert tail.endswith("the end")
    assert len(tail.encode()) <= 2048
    assert "canary" not in tail


@pytest.mark.scenario(82)
async def test_nothing_outside_can_be_reached(bench: Bench, liar: Start) -> None:
    liar("listens")
    _, left = await died(bench, "reach_out")
    assert left == 20


@pytest.mark.scenario(81)
async def test_it_has_no_privilege_and_can_gain_none(bench: Bench, liar: Start) -> None:
    liar("listens")
    _, left = await died(bench, "privileges")
    assert left == 30


async def test_a_container_that_ends_by_itself_is_an_internal_fault(
    bench: Bench, liar: Start
) -> None:
    liar("listens")
    _, left = await died(bench, "leave")
    assert left == 7


def _used(place: Path) -> int:
    return shutil.disk_usage(place).used
