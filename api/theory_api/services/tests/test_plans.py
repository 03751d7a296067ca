"""Applying documents: checked whole before anything happens, stored before it is decided."""

# ruff: noqa: ANN401 - documents hold anything

from __future__ import annotations

import threading
from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.truth import IdempotencyRow
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.tests.bench import Disk, House, Shelf, output_of, step, until
from theory_api.services.plans import LARGE, Attachment, PlanCommands
from theory_core import LIMITS, TheoryError, canonicalize, digest, loads_strict


class Inbox:
    """Takes commands and decides nothing."""

    def __init__(self) -> None:
        self.taken: list[tuple[cmd.Command, IdempotencyRow | None]] = []

    async def submit(
        self, command: cmd.Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        self.taken.append((command, idempotency))
        return Answer(command.plan, len(self.taken), ("plan.created",))


class Desk:
    """Plan commands over an inbox and stores in memory."""

    def __init__(self, *, ci: bool = False) -> None:
        self.inbox = Inbox()
        self.disk = Disk()
        self.shelf = Shelf(snapshot())
        self.plans = PlanCommands(self.inbox, self.disk.artifacts, self.shelf, ci=ci)

    async def refusal(self, document: dict[str, Any], **attached: bytes) -> TheoryError:
        """What applying is refused with. Law: a refusal leaves nothing behind."""
        with pytest.raises(TheoryError) as caught:
            await self.plans.apply(
                document,
                tenant="acme",
                by="me",
                attachments={name: Attachment(body) for name, body in attached.items()},
            )
        assert self.inbox.taken == []
        assert self.disk.artifacts.blobs == {}
        return caught.value


def document(transitions: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    plan = {"schema": "theory.plan.v1", "plan": "p1", "budget": {"usd_micro": 1000}}
    return plan | {"transitions": transitions or {"a": step()}} | fields


async def test_everything_that_a_plan_names_is_stored_before_it_is_decided() -> None:
    desk = Desk()
    inputs = {"text": {"$attach": "text"}}
    applied = await desk.plans.apply(
        document({"a": step(inputs=inputs)}),
        tenant="acme",
        by="me",
        attachments={"text": Attachment(b"hello", "text/plain")},
    )
    assert (applied.plan, applied.created) == ("/world/acme/p1", True)
    ((command, _),) = desk.inbox.taken
    assert isinstance(command, cmd.CreatePlan)
    assert command.registry_snapshot == desk.shelf.current.id
    assert command.policy == desk.shelf.current.policy("default@1")
    (attachment,) = command.attachments
    assert attachment.path == "/artifacts/attachments/text"
    blobs = desk.disk.artifacts.blobs
    assert blobs[attachment.cid] == b"hello"
    stored = loads_strict(blobs[command.document])
    assert stored == {
        "document": document({"a": step(inputs=inputs)}),
        "attachments": {"text": digest(b"hello")},
    }
    assert loads_strict(blobs[command.proposals[0].inputs]) == {
        "schema": "v1",
        "params": {"text": {"$artifact": "/artifacts/attachments/text"}},
    }


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"transitions": {"a": step(depends_on=["a"])}}, "ERR_PLAN_INVALID", "cycle"),
        ({"transitions": {"a": step(processor_ref="no/such@1")}}, "ERR_NOT_FOUND", "no/such@1"),
        ({"policy": "lavish@1"}, "ERR_NOT_FOUND", "lavish@1"),
        ({"registry_snapshot": "b3:" + "0" * 64}, "ERR_REGISTRY_MISMATCH", "another registry"),
        ({"lane": "main"}, "ERR_IMAGE_UNPINNED", "image not pinned"),
        ({"invariants": [{"name": "artifact.exists@1"}]}, "ERR_PLAN_INVALID", "invariants"),
        (
            {"transitions": {"a": step(processor_ref="demo/strict@1")}},
            "ERR_INPUTS",
            "$.transitions.a.inputs: invalid inputs payload",
        ),
        (
            {"transitions": {"a": step(processor_ref="demo/strict@1", inputs={"text": "x"})}},
            "ERR_INPUTS",
            "$.params.text",
        ),
        ({"plan": "/world/evil/p1"}, "ERR_FORBIDDEN", "evil"),
    ],
)
async def test_a_document_with_a_fault_is_refused_without_a_trace(
    fields: dict[str, Any], code: str, words: str
) -> None:
    error = await Desk().refusal(document(**fields))
    assert error.code == code
    assert words in error.message


async def test_inputs_are_checked_with_something_in_the_place_of_what_is_not_there_yet() -> None:
    desk = Desk()
    strict = step(processor_ref="demo/strict@1", inputs={"text": output_of("a")})
    await desk.plans.apply(document({"a": step(), "b": strict}), tenant="acme", by="me")
    many = step(processor_ref="demo/strict@1", inputs={"text": output_of("a", "outputs/")})
    error = await Desk().refusal(document({"a": step(), "b": many}))
    assert error.code == "ERR_INPUTS"


@pytest.mark.parametrize("name", ["", "a/b", "A", "..", "a%41", ".git", "a\x00", "x" * 300])
async def test_an_attachments_name_is_one_canonical_segment(name: str) -> None:
    error = await Desk().refusal(document(), **{name: b"x"})
    assert error.code in {
        "ERR_INPUTS",
        "ERR_PATH_SYNTAX",
        "ERR_DOT_SEGMENTS",
        "ERR_FORBIDDEN_SEGMENT",
        "ERR_SEGMENT_TOO_LONG",
    }


async def test_a_document_too_large_for_a_request_is_refused() -> None:
    wide = {
        f"t{n}": step(inputs={"x": "y" * (LIMITS["json_in_truth_bytes"] - 100)}) for n in range(33)
    }
    error = await Desk().refusal(document(wide))
    assert error.code == "ERR_TOO_LARGE"


async def test_a_large_document_is_checked_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    draft = PlanCommands.draft

    def watched(self: PlanCommands, *given: Any, **how: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return draft(self, *given, **how)

    monkeypatch.setattr(PlanCommands, "draft", watched)
    for size in (1, LARGE + 1):
        made = {f"t{n}": step() for n in range(size)}
        await Desk().plans.apply(document(made), tenant="acme", by="me")
    assert seen == [True, False]


async def test_nothing_runs_for_real_under_ci() -> None:
    error = await Desk(ci=True).refusal(document({"a": step(), "b": step(mode="real")}))
    assert error.code == "ERR_CI_SAFETY"
    assert "Refusing to run mode=real in CI" in error.message
    await Desk(ci=True).plans.apply(document(), tenant="acme", by="me")
    await Desk().plans.apply(document({"a": step(mode="real")}), tenant="acme", by="me")


async def test_commands_of_people_reach_the_inbox_as_they_are() -> None:
    desk, plan = Desk(), "/world/acme/p1"
    await desk.plans.cancel(plan, by="me", reason="enough")
    await desk.plans.pause(plan, by="me", reason="lunch")
    await desk.plans.resume(plan, by="me", reason="back")
    await desk.plans.topup(plan, by="me", amount={"tokens": 5})
    assert [command for command, _ in desk.inbox.taken] == [
        cmd.CancelPlan(plan=plan, by="me", reason="enough"),
        cmd.PausePlan(plan=plan, by="me", reason="lunch"),
        cmd.ResumePlan(plan=plan, by="me", reason="back"),
        cmd.TopUp(plan=plan, by="me", amount={"tokens": 5}),
    ]


async def test_the_same_document_again_is_the_same_plan() -> None:
    async with House() as house:
        first = await house.applied({"a": step()})
        again = await house.applied({"a": step()})
        assert (first.created, again.created) == (True, False)
        assert await house.ended(first.plan) == "completed"
        late = await house.applied({"a": step()})
        assert (late.plan, late.created) == (first.plan, False)
        assert len(house.processors.runs) == 1
        for other in ({"a": step("x")}, {"b": step()}):
            with pytest.raises(TheoryError, match="another plan has this name") as caught:
                await house.applied(other)
            assert caught.value.code == "ERR_CONFLICT"


async def test_other_attachments_make_another_document() -> None:
    async with House() as house:
        work = {"a": step(inputs={"text": {"$attach": "text"}})}
        await house.applied(work, text=b"one")
        with pytest.raises(TheoryError) as caught:
            await house.applied(work, text=b"two")
        assert caught.value.code == "ERR_CONFLICT"


async def test_a_request_is_answered_once_and_replayed_after_that() -> None:
    async with House() as house:
        body = digest(canonicalize(document()))
        row = IdempotencyRow("acme/me", "k", body, b'{"plan":"/world/acme/p1"}')

        async def post() -> bytes | None:
            applied = await house.plans.apply(document(), tenant="acme", by="me", idempotency=row)
            return applied.replayed

        assert await post() is None
        assert await post() == row.answer
        other = IdempotencyRow("acme/me", "k", digest(b"other"), row.answer)
        with pytest.raises(TheoryError) as caught:
            await house.plans.apply(document(), tenant="acme", by="me", idempotency=other)
        assert caught.value.code == "ERR_IDEMPOTENCY_MISMATCH"


@pytest.mark.scenario(67)
async def test_a_top_up_lets_a_breached_plan_go_on() -> None:
    registry = snapshot(on_breach="pause")
    async with House(registry=registry) as house:

        async def dear(run: Any) -> dict[str, Any]:
            envelope: dict[str, Any] = await run.succeed({"x": b"1"}, usage={"usd_micro": 20})
            return envelope

        house.processors.behaviours["dear"] = [dear]
        work = {"a": step("dear"), "b": step(depends_on=["a"])}
        plan = await house.apply(work, budget={"usd_micro": 25})
        for _ in range(20):
            await until(house.clock, house.reads.plan(plan))
        assert (await house.reads.plan(plan)).status == "paused"
        await house.plans.topup(plan, by="me", amount={"usd_micro": 5})
        await house.plans.resume(plan, by="me", reason="paid")
        assert await house.ended(plan) == "completed"
