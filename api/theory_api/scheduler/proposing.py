"""What a run's result proposes, made into transitions of its plan: judged like anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any, Final

from theory_api.domain import commands as cmd
from theory_api.domain.document import PlanDocument, read
from theory_api.domain.planning import check_order, resolve
from theory_api.domain.proposal import allowance, unfit
from theory_api.domain.references import stand_in, substitute
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.values import Output
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.discretion import Discretion
from theory_api.scheduler.outcome import Note, fault
from theory_api.scheduler.reckoning import disown
from theory_api.scheduler.turns import Turn
from theory_core import LIMITS, TheoryError, canonicalize, digest, is_name, loads_strict

PROPOSED: Final = "outputs/transitions.json"
"""The output, below a write prefix, that is read as proposals (guide: a planner)."""
REFUSED: Final = "refused"
"""The parameter by which a processor is told, once, what was refused."""
AGAIN: Final = ".again"

MOST: Final = 1000
_AT_ONCE: Final = 16
"""Proposals judged before everybody else has a turn of the loop."""
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
    """Judges the proposals of a run, so that they are taken with its success.

    Laws: they depend on the transition that proposed them, and are decided together with its
    success, all or none; in sum they hold no more than the run's own reservation has left, and
    reserve from the plan's budget as any other; a run in mode mock proposes mock. What is refused
    is told to the processor once, if it declares a parameter `refused`; else, and the second time,
    the run has failed with the refusal's code.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def judge(
        self, state: PlanState, attempt: Attempting, note: Note
    ) -> tuple[Note, tuple[cmd.Proposal, ...]]:
        """The note that is to be reported, and what is to be taken with it, inputs stored.

        Law: what cannot be read of it ends this run, and nothing else. Raises `PASSING`.
        """
        place = attempt.write_prefix + PROPOSED
        found = next((output for output in note.outputs if output.path == place), None)
        ending = state.cancel is not None or state.failing is not None
        if note.outcome != "succeeded" or found is None or ending:
            return note, ()
        left = allowance(state, attempt, note.usage)
        try:
            snapshot = await self._context.snapshots.get(state.registry_snapshot)
            batch = await self._batch(state, attempt, snapshot, found, left)
        except TheoryError as error:
            if error.code in PASSING:
                raise
            return await disown(self._context, state, attempt, note, fault(error)), ()
        for body in batch.inputs.values():
            await self._context.artifacts.put(body)
        return note, tuple(batch.proposals)

    # -- what is proposed -------------------------------------------------------------------

    async def _batch(
        self,
        state: PlanState,
        attempt: Attempting,
        snapshot: RegistrySnapshot,
        found: Output,
        left: Mapping[str, int],
    ) -> _Batch:
        """What is to be taken; raises the refusal's `TheoryError`, and what stores raise."""
        try:
            return await self._read(state, attempt, snapshot, found, left)
        except _RefusedProposalError as refusal:
            asked = await self._again(state, attempt, snapshot, refusal, left)
            if asked is None:
                raise refusal.error from refusal
            return asked

    async def _read(
        self,
        state: PlanState,
        attempt: Attempting,
        snapshot: RegistrySnapshot,
        found: Output,
        left: Mapping[str, int],
    ) -> _Batch:
        """Every proposal, judged; raises `_RefusedProposalError` for the first that is refused."""
        body = await self._body(found)
        parent = state.transitions[attempt.transition].proposed
        spec = snapshot.processor(parent.processor_ref)
        discretion = Discretion.of(self._context, spec, parent.mode)
        if discretion.tells(body.decode("utf-8", "replace")):
            raise _RefusedProposalError(_invalid("it tells a secret"))
        entries = _entries(body)
        for name, entry in entries.items():
            if name in state.transitions:
                taken = _invalid(f"transition {name} exists already", "ERR_CONFLICT")
                raise _RefusedProposalError(taken, name, str(entry.get("processor_ref")))
        names = frozenset((*state.transitions, *entries))
        batch = _Batch()
        for index, (name, entry) in enumerate(entries.items()):
            if index % _AT_ONCE == 0:
                await Turn()
            try:
                document = _document(state, attempt, {name: entry})
                self._resolve(state, document, snapshot, names, batch)
            except TheoryError as error:
                ref = str(entry.get("processor_ref"))
                raise _RefusedProposalError(error, name, ref) from error
        try:
            check_order(batch.proposals)
        except TheoryError as error:
            raise _RefusedProposalError(error) from error
        batch.proposals = _in_order(batch.proposals)
        refused = unfit(state, batch.proposals, left)
        if refused is not None:
            name, reason = refused
            ref = str(entries.get(name, {}).get("processor_ref", ""))
            unmet = TheoryError(reason.code, reason.message, dict(reason.detail))
            raise _RefusedProposalError(unmet, name, ref)
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
        known: frozenset[str],
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
        batch.proposals.extend(planned.proposals)
        batch.inputs |= planned.inputs

    # -- what was refused -------------------------------------------------------------------

    async def _again(
        self,
        state: PlanState,
        attempt: Attempting,
        snapshot: RegistrySnapshot,
        refusal: _RefusedProposalError,
        left: Mapping[str, int],
    ) -> _Batch | None:
        """The same work once more, told what was refused; None where that cannot be.

        Law: it holds what the run has left, and is not asked where nothing is left of something.
        """
        proposed = state.transitions[attempt.transition].proposed
        spec = snapshot.processor(proposed.processor_ref)
        name = attempt.transition + AGAIN
        document = loads_strict(await self._context.artifacts.get(proposed.inputs))
        heard = REFUSED in document["params"]
        declared = REFUSED in spec.document.inputs.get("properties", {})
        hold = {dimension: min(had, left[dimension]) for dimension, had in proposed.hold.items()}
        spent = any(had and not hold[dimension] for dimension, had in proposed.hold.items())
        if heard or spent or not declared or not is_name(name):
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
            hold=hold,
            timeout_ms=proposed.timeout_ms,
            adapter=proposed.adapter,
        )
        if unfit(state, (proposal,), left) is not None:
            return None
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


def _invalid(reason: str, code: str = "ERR_PLAN_INVALID") -> TheoryError:
    return TheoryError(code, f"proposal refused: {reason}", {"place": PROPOSED})
