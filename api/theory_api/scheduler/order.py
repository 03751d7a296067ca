"""Everything that one attempt needs, gathered when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theory_api.domain.references import readable
from theory_api.domain.registry import ProcessorSpec, RegistrySnapshot, env_fingerprint
from theory_api.domain.state import Attempting, PlanState
from theory_api.ports.intake import InputArtifact
from theory_api.scheduler.context import Context
from theory_api.scheduler.inputs import InputDocuments
from theory_core import loads_strict


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that one attempt needs, taken from the state when it started."""

    plan: str
    attempt: Attempting
    ref: str
    mode: str
    timeout_s: float
    snapshot: RegistrySnapshot
    spec: ProcessorSpec
    inputs: Mapping[str, Any]
    inputs_hash: str
    fingerprint: str
    artifacts: tuple[InputArtifact, ...]
    limit: Mapping[str, int]
    """The plan's limits when it started: what is limited and not held may not be used."""
    reach: tuple[str, ...] = ()
    """Origins that the run may connect to, where its adapter fences it."""
    image_digest: str | None = None
    """The pinned image, which the runtime has to confirm; None in lane build."""

    @property
    def execution_id(self) -> str:
        """The attempt's name."""
        return self.attempt.execution_id


async def order(
    context: Context, inputs: InputDocuments, state: PlanState, attempt: Attempting
) -> Order:
    """Gather what the attempt needs; raises `TheoryError` from the stores."""
    snapshot = await context.snapshots.get(state.registry_snapshot)
    document: Any = loads_strict(await inputs.get(attempt.inputs))
    proposed = state.transitions[attempt.transition].proposed
    spec = snapshot.processor(proposed.processor_ref)
    return Order(
        plan=state.plan,
        attempt=attempt,
        ref=proposed.processor_ref,
        mode=proposed.mode,
        timeout_s=proposed.timeout_ms / 1000,
        snapshot=snapshot,
        spec=spec,
        inputs=document,
        inputs_hash=attempt.inputs_hash,
        fingerprint=env_fingerprint(spec, platform=context.platform, mode=proposed.mode),
        artifacts=tuple({item.path: item for item in _artifacts(document["params"])}.values()),
        limit=dict(state.limit),
        reach=spec.reach(proposed.mode, snapshot.policy_spec(state.rules.ref).uri_allow),
        image_digest=snapshot.pin(spec.ref, lane=state.lane, platform=context.platform),
    )


def _artifacts(value: Any) -> list[InputArtifact]:  # noqa: ANN401
    """Every artifact of a resolved inputs document that the attempt may read."""
    return [InputArtifact(**found) for found in readable(value)]
