"""What a run's result proposes, made into transitions of its plan: judged like anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, Final

import msgspec

from theory_api.domain import commands as cmd
from theory_api.domain.document import PlanDocument, read
from theory_api.domain.planning import resolve
from theory_api.domain.references import stand_in, substitute
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.runnable import hopeless
from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.values import Output
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.outcome import Note, fault
from theory_api.scheduler.writer import Writer
from theory_core import LIMITS, TheoryError, canonicalize, digest, is_name, loads_strict

PROPOSED: Final = "outputs/transitions.json"
"""The output, below a write prefix, that is read as proposals (guide: a planner)."""
REFUSED: Final = "refused"
"""The parameter by which a processor is told, once, what was refused."""
AGAIN: Final = ".again"

MOST: Final = 1000
_WORDS: Final = 512


class _RefusedProposalError(Exception):
    """One proposal that the plan cannot take, and why."""

    def __init__(self, error: TheoryError, transition: str = "", ref: str = "") -> None:
        super().__init__(error.code)
        self.error = error
        self.told = {
            "code": error.code,
            "message": error.message[:_WORDS],
            "transition": transition,
            "processor_ref": ref,
        }


@dataclass(slots=True)
class _Batch:
    """Proposals, and the inputs that have to be stored before them."""

    proposals: list[cmd.Proposal] = field(default_factory=list)
    inputs: dict[str, bytes] = field(default_factory=dict)


class Proposing:
    """Takes the proposals of a run before its success is reported.

    Laws: they depend on the transition that proposed them, so none runs unless it succeeds; they
    reserve from the plan's budget as any other; a run in mode mock proposes mock; either all of
    them are taken or none. What is refused is told to the processor once, if it declares a
    parameter `refused`; else, and the second time, the run has failed with the refusal's code.
    """

    def __init__(self, context: Context, writer: Writer) -> None:
        self._context = context
        self._writer = writer

    async def take(self, state: PlanState, attempt: Attempting, note: Note) -> tuple[Note, bool]:
        """The note that is to be reported, and whether the plan was changed meanwhile.

        Doing it again changes nothing. Raises what stores raise.
        """
        place = attempt.write_prefix + PROPOSED
        found = next((output for output in note.outputs if output.path == place), None)
        ending = state.cancel is not None or state.failing is not None
        if note.outcome != "succeeded" or found is None or ending:
            return note, False
        snapshot = await self._context.snapshots.get(state.registry_snapshot)
        try:
            batch = await self._read(state, attempt, snapshot, found)
        except _RefusedProposalError as refusal:
            asked = await self._again(state, attempt, snapshot, refusal)
            if asked is None:
                return _failed(note, refusal.error), False
            batch = asked
        by = f"execution {attempt.execution_id}"
        missing = [item for item in batch.proposals if item.transition not in state.transitions]
        for body in batch.inputs.values() if missing else ():
            await self._context.artifacts.put(body)
        for proposal in missing:
            command = cmd.ProposeTransition(plan=state.plan, by=by, proposal=proposal)
            try:
                await self._writer.submit(command)
            except TheoryError as error:
                if error.code in PASSING | {"ERR_NOT_WRITER"}:
                    raise
                # Judged a moment ago: the plan has begun to end, or somebody was quicker.
                return _failed(note, error), True
        return note, bool(missing)

    # -- what is proposed -------------------------------------------------------------------

    async def _read(
        self, state: PlanState, attempt: Attempting, snapshot: RegistrySnapshot, found: Output
    ) -> _Batch:
        """Every proposal, judged; raises `_RefusedProposalError` for the first that is refused."""
        entries = _entries(await self._body(found))
        by = f"execution {attempt.execution_id}"
        for name, entry in entries.items():
            known = state.transitions.get(name)
            if known is not None and known.proposed.by != by:
                error = _invalid(f"transition {name} exists already", "ERR_CONFLICT")
                raise _RefusedProposalError(error, name, str(entry.get("processor_ref")))
        batch = _Batch()
        for name, entry in entries.items():
            try:
                document = _document(state, attempt, {name: entry})
                self._resolve(state, document, snapshot, (*state.transitions, *entries), batch)
            except TheoryError as error:
                ref = entry.get("processor_ref") if isinstance(entry, Mapping) else None
                raise _RefusedProposalError(error, name, str(ref)) from error
        if entries:
            try:
                whole = _document(state, attempt, entries)
                self._resolve(state, whole, snapshot, tuple(state.transitions), _Batch())
            except TheoryError as error:
                raise _RefusedProposalError(error) from error
        batch.proposals = _in_order(batch.proposals)
        return batch

    async def _body(self, found: Output) -> bytes:
        if found.size_bytes > LIMITS["json_in_truth_bytes"]:
            raise _RefusedProposalError(_invalid("the proposals are too large", "ERR_TOO_LARGE"))
        return await self._context.artifacts.get(found.cid)

    def _resolve(
        self,
        state: PlanState,
        document: PlanDocument,
        snapshot: RegistrySnapshot,
        known: tuple[str, ...],
        batch: _Batch,
    ) -> None:
        planned = resolve(
            document,
            tenant=state.plan.split("/")[2],
            snapshot=snapshot,
            attached=(),
            known=known,
            default_adapter=self._context.default_adapter,
        )
        for proposal in planned.proposals:
            spec = snapshot.processor(proposal.processor_ref)
            params = substitute(planned.params[proposal.transition], stand_in)
            spec.check_inputs(canonicalize({"schema": "v1", "params": params}))
            _check_hold(proposal, spec.estimate)
            beyond = hopeless(state, proposal.hold)
            if beyond is not None:
                raise TheoryError(beyond.code, beyond.message, dict(beyond.detail))
        batch.proposals.extend(planned.proposals)
        batch.inputs |= planned.inputs

    # -- what was refused -------------------------------------------------------------------

    async def _again(
        self,
        state: PlanState,
        attempt: Attempting,
        snapshot: RegistrySnapshot,
        refusal: _RefusedProposalError,
    ) -> _Batch | None:
        """The same work once more, told what was refused; None where that cannot be."""
        proposed = state.transitions[attempt.transition].proposed
        spec = snapshot.processor(proposed.processor_ref)
        name = attempt.transition + AGAIN
        document = loads_strict(await self._context.artifacts.get(proposed.inputs))
        heard = REFUSED in document["params"]
        declared = REFUSED in spec.document.inputs.get("properties", {})
        if heard or not declared or not is_name(name) or hopeless(state, proposed.hold) is not None:
            return None
        document["params"][REFUSED] = refusal.told
        body = canonicalize(document)
        proposal = cmd.Proposal(
            transition=name,
            processor_ref=proposed.processor_ref,
            mode=proposed.mode,
            inputs=digest(body),
            depends_on=tuple(dict.fromkeys((*proposed.depends_on, attempt.transition))),
            write_prefix=proposed.write_prefix,
            write_set=proposed.write_set,
            admission=proposed.admission,
            success=proposed.success,
            hold=proposed.hold,
            timeout_ms=proposed.timeout_ms,
            adapter=proposed.adapter,
        )
        return _Batch([proposal], {proposal.inputs: body})


def _in_order(proposals: list[cmd.Proposal]) -> list[cmd.Proposal]:
    """Every proposal after those that it depends on; there is no cycle."""
    named = {proposal.transition: proposal for proposal in proposals}
    before = {name: named.keys() & set(item.depends_on) for name, item in named.items()}
    order = TopologicalSorter({name: sorted(names) for name, names in before.items()})
    return [named[name] for name in order.static_order()]


def _entries(body: bytes) -> dict[str, dict[str, Any]]:
    """Transition id -> its members, of `{"transitions": [{"id": …, …}]}`."""
    try:
        listed = loads_strict(body)["transitions"]
        entries = {entry["id"]: entry for entry in listed}
        found = {
            name: {key: item for key, item in entry.items() if key != "id"}
            for name, entry in entries.items()
        }
    except (TheoryError, KeyError, TypeError, AttributeError) as error:
        fault_of = _invalid("proposals are written {transitions: [{id, …}]}")
        raise _RefusedProposalError(fault_of) from error
    if len(found) != len(listed) or len(found) > MOST:
        raise _RefusedProposalError(_invalid(f"{MOST} different proposals at most are taken"))
    return found


def _document(
    state: PlanState, attempt: Attempting, entries: Mapping[str, dict[str, Any]]
) -> PlanDocument:
    """The proposals as a plan document: typed, after their parent, in its mode and its adapter."""
    parent = state.transitions[attempt.transition].proposed
    children = {}
    for name, entry in entries.items():
        if parent.mode == "mock" and entry.get("mode") == "real":
            raise TheoryError("ERR_MODE_INVALID", "a run in mode mock proposes mock alone", {})
        if entry.get("adapter", parent.adapter) != parent.adapter:
            raise _invalid(f"$.transitions.{name}.adapter: a proposal has its parent's adapter")
        after = entry.get("depends_on", [])
        depends_on = [*after, attempt.transition] if isinstance(after, list) else after
        child = {"mode": parent.mode, **entry, "depends_on": depends_on}
        children[name] = child | ({} if parent.adapter is None else {"adapter": parent.adapter})
    return read(
        {
            "schema": "theory.plan.v1",
            "plan": state.plan,
            "budget": {},
            "lane": state.lane,
            "policy": state.rules.ref,
            "transitions": children,
        }
    )


def _check_hold(proposal: cmd.Proposal, least: Mapping[str, int]) -> None:
    """Law: what a run proposes holds what its processor is estimated at, or more.

    A person may state less and answer for it; a run could unbind itself from its plan's limit.
    """
    for dimension, amount in least.items():
        if proposal.hold.get(dimension, 0) < amount:
            place = f"$.transitions.{proposal.transition}.estimate"
            message = f"{place}: {dimension} is below the {amount} of {proposal.processor_ref}"
            raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})


def _failed(note: Note, error: TheoryError) -> Note:
    """The note of a run whose proposals its plan cannot take."""
    return msgspec.structs.replace(
        note, outcome="failed", error=fault(error), outputs=(), outputs_index=None
    )


def _invalid(reason: str, code: str = "ERR_PLAN_INVALID") -> TheoryError:
    return TheoryError(code, f"proposal refused: {reason}", {"place": PROPOSED})
