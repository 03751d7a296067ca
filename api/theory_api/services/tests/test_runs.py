from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from theory_api.ports.truth import ExecutionRow
from theory_api.services.plans import Attachment
from theory_api.services.runs import RunOutcome, RunRequest
from theory_api.services.tests.house import PARAMS, REF, House, Script, house
from theory_api.services.views import ErrorView, PlanView
from theory_core import TheoryError, loads_strict, validate_envelope

REQUEST = RunRequest(ref=REF, inputs=PARAMS)


async def run(home: House, request: RunRequest = REQUEST) -> RunOutcome:
    return await home.runs.run(request, tenant="local", by="local")


def error_of(outcome: RunOutcome) -> dict[str, Any]:
    envelope = validate_envelope(outcome.envelope)
    assert outcome.status == envelope["status"] == "error"
    assert outcome.error is not None
    assert outcome.error.code == envelope["error"]["code"]
    return dict(envelope["error"])


async def test_a_run_is_a_plan_of_one_transition_and_answers_the_stored_envelope() -> None:
    async with house() as home:
        outcome = await run(home)
        view = await home.queries.show(outcome.plan)
        (attempt,) = view.transitions[0].executions
        assert outcome.status == "success"
        assert attempt.envelope is not None
        assert outcome.envelope == await home.queries.document(attempt.envelope)
        assert view.status == "completed"
        assert {line.reserved for line in view.budget} == {0}
        verdict = await home.ledgers.verify(outcome.plan, laws=True)
        assert verdict.fault is None


async def test_inputs_may_come_as_params_or_in_their_wire_form() -> None:
    async with house() as home:
        wire = {"schema": "v1", "params": PARAMS}
        assert (await run(home, RunRequest(ref=REF, inputs=wire))).status == "success"


async def test_each_run_is_a_run_of_its_own_unless_it_is_named() -> None:
    async with house() as home:
        assert (await run(home)).plan != (await run(home)).plan
        named = dataclasses.replace(REQUEST, execution_id="mine")
        first = await run(home, named)
        assert first.plan == "/world/local/run-mine"
        before = len(home.adapter.invoked)
        assert (await run(home, named)).envelope == first.envelope
        assert len(home.adapter.invoked) == before
        other = dataclasses.replace(named, inputs=dict(PARAMS) | {"text": "other"})
        assert error_of(await run(home, other))["code"] == "ERR_CONFLICT"


async def test_mode_real_under_ci_is_refused_before_any_adapter_is_asked() -> None:
    async with house(ci=True) as home:
        real = dataclasses.replace(REQUEST, mode="real")
        error = error_of(await run(home, real))
        assert error == {"code": "ERR_CI_SAFETY", "message": "Refusing to run mode=real in CI"}
        unknown = dataclasses.replace(real, ref="no/such@1")
        assert error_of(await run(home, unknown))["code"] == "ERR_CI_SAFETY"
        assert home.adapter.invoked == []
        assert (await home.queries.plans()).plans == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (dataclasses.replace(REQUEST, ref="no/such@1"), "ERR_NOT_FOUND"),
        (dataclasses.replace(REQUEST, ref="not a ref\n"), "ERR_NOT_FOUND"),
        (dataclasses.replace(REQUEST, inputs={"nonsense": 1}), "ERR_INPUTS"),
        (dataclasses.replace(REQUEST, inputs={"schema": "v1", "params": [1]}), "ERR_INPUTS"),
        (dataclasses.replace(REQUEST, execution_id="Not A Name"), "ERR_INPUTS"),
        (dataclasses.replace(REQUEST, execution_id="x" * 60), "ERR_INPUTS"),
        (dataclasses.replace(REQUEST, lane="main"), "ERR_IMAGE_UNPINNED"),
        (dataclasses.replace(REQUEST, write_prefix="/tmp/{execution_id}/"), "ERR_BAD_FACET"),  # noqa: S108
        (dataclasses.replace(REQUEST, write_prefix="/artifacts/x/"), "ERR_PREFIX_TEMPLATE"),
        (dataclasses.replace(REQUEST, timeout_s=0), "ERR_PLAN_INVALID"),
        (dataclasses.replace(REQUEST, attachments={"../x": Attachment(b"")}), None),
    ],
)
async def test_a_refused_run_is_an_error_envelope_and_nothing_runs(
    request_: RunRequest, code: str | None
) -> None:
    async with house() as home:
        outcome = await run(home, request_)
        found = error_of(outcome)
        assert code is None or found["code"] == code
        assert found["message"]
        assert home.adapter.invoked == []


async def test_a_run_that_fails_answers_its_own_error_envelope() -> None:
    async with house(Script(fails="ERR_OOM")) as home:
        outcome = await run(home)
        assert error_of(outcome)["code"] == "ERR_OOM"
        assert (await home.queries.show(outcome.plan)).status == "failed"


@pytest.mark.parametrize("dimension", ["usd_micro", "tokens", "gpu_ms"])
async def test_a_run_that_reports_more_than_the_default_policy_allows_has_failed(
    dimension: str,
) -> None:
    async with house(Script(usage={dimension: 10**9})) as home:
        outcome = await run(home)
        assert error_of(outcome)["code"] == "ERR_BUDGET_EXCEEDED"
        view = await home.queries.show(outcome.plan)
        assert view.status == "failed"
        assert {line.dimension: line.spent for line in view.budget}[dimension] == 10**9
        verdict = await home.ledgers.verify(outcome.plan, laws=True)
        assert verdict.fault is None


async def test_a_run_whose_plan_failed_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as home:
        named = dataclasses.replace(REQUEST, execution_id="mine")
        first = await run(home, named)
        show = home.queries.show
        broke = ErrorView(code="ERR_NOT_FOUND", message="no processor a/b@1", detail={})

        async def failed(plan: str) -> PlanView:
            return msgspec.structs.replace(await show(plan), status="failed", error=broke)

        monkeypatch.setattr(home.runs._queries, "show", failed)
        assert first.status == "success"
        assert error_of(await run(home, named))["code"] == "ERR_NOT_FOUND"


async def test_what_a_run_proposed_does_not_answer_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as home:
        named = dataclasses.replace(REQUEST, execution_id="mine")
        first = await run(home, named)
        (row,) = await home.read.executions(first.plan)
        child = dataclasses.replace(row, transition="child", attempt=7, envelope=None)

        async def executions(_plan: str) -> list[ExecutionRow]:
            return [row, child]

        monkeypatch.setattr(home.read, "executions", executions)
        monkeypatch.setattr(home.runs, "_read", home.read)
        assert (await run(home, named)).envelope == first.envelope


async def test_a_run_that_writes_what_its_spec_does_not_declare_has_failed() -> None:
    script = Script(outputs={"outputs/said.txt": b"", "outputs/unsaid.bin": b"more"})
    async with house(script) as home:
        outcome = await run(home)
        error = error_of(outcome)
        assert error["code"] == "ERR_ADAPTER_INVOCATION"
        assert "declares no output outputs/unsaid.bin as text/plain" in error["message"]
        assert (await home.queries.show(outcome.plan)).outputs == []


async def test_a_cancelled_run_says_so() -> None:
    async with house(Script(gate=asyncio.Event())) as home:
        running = asyncio.create_task(run(home, dataclasses.replace(REQUEST, execution_id="mine")))
        await home.adapter.began.wait()
        await home.plans.cancel("/world/local/run-mine", by="local", reason="enough")
        assert error_of(await running)["code"] == "ERR_CANCELLED"


async def test_attachments_of_a_run_are_artifacts_of_its_plan() -> None:
    async with house() as home:
        request = dataclasses.replace(
            REQUEST,
            inputs={"task": "script", "text": {"$attach": "text"}},
            attachments={"text": Attachment(b"Some words.", "text/plain")},
        )
        outcome = await run(home, request)
        assert outcome.status == "success"
        content = await home.queries.artifact(outcome.plan, "/artifacts/attachments/text")
        assert content.artifact.size_bytes == len(b"Some words.")


async def test_a_scheduler_that_stopped_is_an_error_and_no_envelope() -> None:
    async with house() as home:
        await run(home)
        await home.engine.stop()
        with pytest.raises(TheoryError) as caught:
            await run(home)
        assert caught.value.code in {"ERR_UNAVAILABLE", "ERR_NOT_WRITER"}


async def test_an_envelope_is_canonical_json() -> None:
    async with house() as home:
        outcome = await run(home)
        envelope: Any = loads_strict(outcome.envelope)
        assert envelope["status"] == "success"
        validate_envelope(outcome.envelope)


async def test_a_newest_attempt_without_envelope_is_not_answered_by_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house() as home:
        named = dataclasses.replace(REQUEST, execution_id="mine")
        first = await run(home, named)
        rows = await home.read.executions(first.plan)
        lost = dataclasses.replace(rows[-1], execution_id="later", attempt=2, envelope=None)

        async def executions(_plan: str) -> list[ExecutionRow]:
            return [*rows, lost]

        monkeypatch.setattr(home.read, "executions", executions)
        monkeypatch.setattr(home.runs, "_read", home.read)
        assert error_of(await run(home, named))["code"] == "ERR_CANCELLED"
