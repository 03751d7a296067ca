"""Everything that an admission needs, gathered before it is proposed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from theory_api.domain import commands as cmd
from theory_api.domain import uris
from theory_api.domain.naming import attempt_id
from theory_api.domain.predicates import STATE, WORLD, stale
from theory_api.domain.registry import ProcessorSpec, RegistrySnapshot, env_fingerprint
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import PlanState
from theory_api.domain.values import SelectorSpec, Verdict
from theory_api.scheduler.capacity import Pool
from theory_api.scheduler.context import Context, Notice
from theory_api.scheduler.evaluation import evaluate
from theory_api.scheduler.inputs import REMEMBERED, InputDocuments, Resolved, resolve
from theory_api.scheduler.stopping import within
from theory_core import LIMITS, TheoryError, WorldPath, digest, expand_prefix, loads_strict

CAPACITY: Final = Blocked("execution.capacity", "waits for a place among the running executions")

PREPARATIONS: Final = 3
"""How often making an adapter ready may fail before a candidate is refused."""

_ADDRESS_BYTES: Final = 128
"""What an artifact's address adds to inputs as they travel."""

_FRAME_REST: Final = 64 * 1024
"""Room for everything of a run's first frame but its inputs."""


Needed = tuple[str, str, str, str | None]
"""What is made ready: the adapter, the processor, its mode, and its image where one is pinned."""

_OWN: Final = WORLD | STATE
"""Predicates whose answer changes by events of their plan alone."""


@dataclass(slots=True)
class Held:
    """What holds a candidate, and the answer that says so if a predicate does."""

    blocked: Blocked
    verdict: Verdict | None = None
    pool: Pool | None = None
    """The pool that has no place for it, if that holds it."""

    @property
    def seatless(self) -> bool:
        """Whether it waits for a place that another execution has."""
        return self.blocked is CAPACITY or self.pool is not None

    @property
    def passing(self) -> bool:
        """Whether what holds it may pass without any event of its plan."""
        if self.verdict is None:
            return self.blocked.condition == "adapter.available"
        return self.verdict.verdict == "error" or self.verdict.name not in _OWN

    def lasts(self, state: PlanState, transition: str, *, at_seq: int) -> bool:
        """Whether it certainly holds the candidate still: nothing touched what was read.

        Law: it is stamped anew with `at_seq`, which the store holds; what is ahead of the store may
        come to nothing, and something else be there under the same number.
        """
        if self.verdict is None or self.passing or stale(state, (self.verdict,), transition):
            return False
        if at_seq > self.verdict.at_seq:
            self.verdict = msgspec.structs.replace(self.verdict, at_seq=at_seq)
        return True


class Gathering:
    """Prepares adapters, resolves inputs and evaluates predicates for candidates."""

    def __init__(self, context: Context, inputs: InputDocuments) -> None:
        self._context = context
        self._inputs = inputs
        self._checked: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._prepared: dict[Needed, asyncio.Task[None]] = {}
        self._failures: dict[Needed, int] = {}

    @property
    def tasks(self) -> Iterable[asyncio.Task[None]]:
        """Preparations, those under way included."""
        return self._prepared.values()

    async def pool(self, state: PlanState, name: str) -> Pool:
        """The executions among which a candidate needs a place; raises as `admission` does."""
        adapter, _, spec = await self._place(state, name)
        return Pool(spec.ref, adapter, spec.runtime.concurrency)

    async def _place(
        self, state: PlanState, name: str
    ) -> tuple[str, RegistrySnapshot, ProcessorSpec]:
        """The adapter of a candidate, the registry that its plan pinned, its processor there."""
        context, proposed = self._context, state.transitions[name].proposed
        adapter = proposed.adapter or context.default_adapter
        if adapter not in context.adapters:
            known = ", ".join(sorted(context.adapters))
            message = f"adapter invocation failed: no adapter {adapter!r}; known are {known}"
            raise TheoryError("ERR_ADAPTER_INVOCATION", message, {"adapter": adapter})
        snapshot = await context.snapshots.get(state.registry_snapshot)
        return adapter, snapshot, snapshot.processor(proposed.processor_ref)

    async def admission(
        self, state: PlanState, name: str, *, at_seq: int, owner: str, epoch: int
    ) -> cmd.Admit | Held:
        """The command that would admit a candidate, or what outside the state holds it.

        `at_seq` is a seq that the world shows at least. Raises `TheoryError` when the candidate can
        never have what it needs, `MissingInputError`, and what the stores raise.
        """
        context, entry = self._context, state.transitions[name]
        proposed, attempt = entry.proposed, entry.attempt
        adapter, snapshot, spec = await self._place(state, name)
        image = snapshot.pin(spec.ref, lane=state.lane, platform=context.platform)
        pinned = None if image is None else f"{spec.image}@{image}"
        key = (adapter, proposed.processor_ref, proposed.mode, pinned)
        try:
            await self._prepare(state.plan, name, key)
        except TheoryError as error:
            context.notify(Notice(state.plan, name, "prepare", error.message))
            if error.code != "ERR_UNAVAILABLE" or not self._worth_another_try(key):
                raise TheoryError("ERR_ADAPTER_INVOCATION", _unready(error), {}) from error
            return Held(Blocked("adapter.available", error.message))
        resolved = await resolve(state, name, context.world, self._inputs.get, context.artifacts)
        self._check(spec, resolved)
        if spec.names_uris:
            allow = snapshot.policy_spec(state.rules.ref).uri_allow
            uris.check(spec.document.inputs, loads_strict(resolved.plain)["params"], allow)
        verdicts = await evaluate(
            proposed.admission, state, context.world, context.artifacts, at_seq=at_seq, own=name
        )
        for verdict in verdicts:
            if verdict.verdict != "true":
                return Held(Blocked(verdict.name, verdict.reason), verdict)
        ident = attempt_id(state.plan, name, attempt)
        inputs = await self._inputs.put(resolved.document)
        return cmd.Admit(
            plan=state.plan,
            transition=name,
            attempt=attempt,
            execution_id=ident,
            write_prefix=expand_prefix(proposed.write_prefix, ident, root=state.plan).relative,
            write_set=_write_set(state.plan, proposed.write_set, ident),
            inputs=inputs,
            inputs_hash=resolved.inputs_hash,
            consumed=resolved.consumed,
            secrets=spec.secrets(proposed.mode),
            verdicts=verdicts,
            adapter=adapter,
            env_fingerprint=env_fingerprint(spec, platform=context.platform, mode=proposed.mode),
            owner=owner,
            epoch=epoch,
            image_digest=image,
        )

    def _check(self, spec: ProcessorSpec, resolved: Resolved) -> None:
        """Judge resolved inputs; the same bytes for the same spec are judged once."""
        about = (spec.digest, digest(resolved.document))
        if about not in self._checked:
            spec.check_inputs(resolved.plain)
            _check_size(resolved)
            self._checked[about] = None
            while len(self._checked) > REMEMBERED:
                self._checked.popitem(last=False)

    def _worth_another_try(self, key: Needed) -> bool:
        """Law: retries are bounded; what fails `PREPARATIONS` times in a row is given up."""
        self._failures[key] = self._failures.get(key, 0) + 1
        return self._failures[key] < PREPARATIONS

    async def _prepare(self, plan: str, name: str, key: Needed) -> None:
        """Have the adapter ready before anything is reserved; once for all who need the same."""
        adapter, ref, mode, pinned = key
        task = self._prepared.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):

            def tell(text: str) -> None:
                self._context.notify(Notice(plan, name, "prepare", text))

            async def ready() -> None:
                place = self._context.adapters[adapter]
                await place.prepare(ref=ref, mode=mode, pinned=pinned, on_progress=tell)

            task = self._prepared[key] = asyncio.create_task(ready())
        limit_s = self._context.pace.prepare_s
        if not task.done() and not await within(self._context, limit_s, task):
            task.cancel()
        if task.cancelled() or not task.done():
            message = f"the adapter was not ready after {limit_s:g} s"
            raise TheoryError("ERR_UNAVAILABLE", message, {"adapter": adapter})
        task.result()
        self._failures.pop(key, None)


def _check_size(resolved: Resolved) -> None:
    """Law: what is admitted can be opened: resolved inputs and their addresses fit one frame."""
    addresses = resolved.document.count(b'"size_bytes":') * _ADDRESS_BYTES
    size = len(resolved.document)
    if size + addresses + _FRAME_REST > LIMITS["frame_bytes"]:
        message = f"the resolved inputs are too large: {size} bytes; read fewer artifacts"
        raise TheoryError("ERR_TOO_LARGE", message, {"size_bytes": size})


def _unready(error: TheoryError) -> str:
    return f"adapter invocation failed: the adapter could not be made ready: {error.message}"[:1024]


def _write_set(plan: str, specs: tuple[SelectorSpec, ...], ident: str) -> tuple[SelectorSpec, ...]:
    expanded = []
    for spec in specs:
        path = WorldPath(spec.path.replace("{execution_id}", ident), root=plan)
        expanded.append(SelectorSpec(kind=spec.kind, path=path.relative))
    return tuple(expanded)
