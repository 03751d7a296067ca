"""Whatever a server elsewhere does, its run has one end, nothing is held, and nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from theory_api.adapters.run_v1.marks import Marks
from theory_api.tests.kept import LIAR, exported, ground, one, opened
from theory_api.tests.transports import short_folder
from theory_core import loads_strict, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SAME = {
    "extra": "ERR_ADAPTER_INVOCATION",
    "both": "ERR_ADAPTER_INVOCATION",
    "size_text": "ERR_ADAPTER_INVOCATION",
    "outputs_object": "ERR_ADAPTER_INVOCATION",
    "meta_text": "ERR_ADAPTER_INVOCATION",
    "outside": "ERR_OUTPUT_PREFIX",
    "invented": "ERR_ADAPTER_INVOCATION",
    "other_index": "ERR_ADAPTER_INVOCATION",
    "unpinned": "ERR_REGISTRY_MISMATCH",
    "undelivered": "ERR_ADAPTER_INVOCATION",
    "twice": "ERR_INPUTS",
    "floods": "ERR_TIMEOUT",
    "hangs": "ERR_TIMEOUT",
}
"""What a server does, and how that ends, whatever it speaks."""
BROKEN = ("nonsense", "bytes", "wrong_kind", "wrong_seq")
"""What is no frame at its place: it breaks the protocol, or the exchange where there is none."""
WS = dict.fromkeys(("other_id", "too_large", *BROKEN), "ERR_WS_PROTOCOL")
HTTP = {"other_id": "ERR_ADAPTER_INVOCATION", "too_large": "ERR_TOO_LARGE"}
ENDS = {
    "modal": SAME | WS | {"leaves": "ERR_WS_CLOSE"},
    "local-http": SAME | HTTP | dict.fromkeys((*BROKEN, "leaves"), "ERR_ADAPTER_INVOCATION"),
    "modal-http": SAME | HTTP | dict.fromkeys((*BROKEN, "leaves"), "ERR_MODAL_INVOCATION"),
}


@pytest.mark.scenario(20, 55, 85, 87)
@pytest.mark.parametrize("transport", sorted(ENDS))
async def test_every_lie_of_a_server_elsewhere_ends_in_one_end_and_a_settled_budget(
    transport: str, tmp_path: Path
) -> None:
    ends = ENDS[transport]
    before = {*psutil.Process().children(recursive=True)}
    with short_folder() as folder, ground(tmp_path) as place:
        async with opened(transport, place, folder, ref=LIAR) as (services, _):

            async def told(how: str) -> bytes:
                name = how.replace("_", "-")
                return await one(services, transport, name, {"how": how}, LIAR)

            rest = [how for how in ends if how != "floods"]
            found = dict(zip(rest, await asyncio.gather(*map(told, rest)), strict=True))
            # By itself: what it says is read as fast as it comes, which takes its time from others.
            found["floods"] = await told("floods")
            for how in ends:
                name = how.replace("_", "-")
                export = await exported(services, name)
                judge(export, how)
                assert b"canary" not in export + found[how], how
                shown = await services.queries.show(f"/world/local/run-{name}")
                assert {line.reserved for line in shown.budget} == {0}, how
            codes = {how: loads_strict(found[how])["error"]["code"] for how in ends}
        assert Marks(folder / "home" / transport).names() == ()
    assert codes == ends
    assert {*psutil.Process().children(recursive=True)} == before


def judge(export: bytes, how: str) -> None:
    """Law: one end of the plan and of each execution, and nothing held that was not settled.

    A server that is slow to confirm an end leaves an orphan, which is settled once it does.
    """
    assert verify(export, laws=True).fault is None, how
    kinds = [loads_strict(line)["event"]["kind"] for line in export.splitlines()]
    assert kinds[-1] == "plan.failed", how
    assert "execution.succeeded" not in kinds, how
    started = kinds.count("execution.started")
    ended = kinds.count("execution.failed") + kinds.count("execution.orphaned")
    assert started == ended > 0, how
    assert kinds.count("budget.reserved") == kinds.count("budget.settled") == started, how
