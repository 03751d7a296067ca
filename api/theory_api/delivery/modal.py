"""Takes processors to Modal as they are pinned, and looks at what is there: its image, its door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import structlog

from theory_api.domain.deployment import Deployment, deployment, function_of, stale
from theory_api.domain.processor import ProcessorSpec, env_fingerprint
from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.deployer import Deployed, Deployer
from theory_core import ERROR_CODES, LIMITS, TheoryError, canonicalize, loads_strict

log = structlog.get_logger(__name__)

PLATFORM: Final = "amd64"
"""What Modal's machines are."""
PROBE: Final = "probe"
"""Execution id of a probe: nothing of it is ever run."""
ANSWER_S: Final = 90.0
"""For an answer, the start of a container included."""
DIGEST_HEADER: Final = "Theory-Image-Digest"

_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """What a function says it runs, beside what is pinned."""

    ref: str
    function: str
    url: str
    pinned: str
    digest: str
    """Empty if it says nothing."""

    @property
    def drifted(self) -> bool:
        """Whether the one is not the other."""
        return self.digest != self.pinned


@dataclass(frozen=True, slots=True)
class Collected:
    """An app that is not wanted any more."""

    app: str
    ref: str
    reason: str


class ModalDelivery:
    """What `theory modal` does, in one environment of the registry.

    `headers` are what Modal's door asks of everybody who comes.
    """

    def __init__(
        self,
        deployer: Deployer,
        snapshot: RegistrySnapshot,
        *,
        environment: str,
        app: Callable[[str], str],
        owner: str,
        headers: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._deployer = deployer
        self._snapshot = snapshot
        self._environment = environment
        self._app = app
        self._owner = owner
        self._headers = dict(headers)
        self._transport = transport

    async def deploy(self, ref: str) -> Deployed:
        """Deploy the pinned image of a processor.

        Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_IMAGE_UNPINNED`, `ERR_REGISTRY_MISMATCH` (it is
        pinned for another platform), and as `Deployer`.
        """
        wanted = self._wanted(ref)
        log.info("modal.deploy", processor_ref=ref, app=wanted.app, image=wanted.image)
        return await self._deployer.deploy(wanted)

    async def status(self, ref: str) -> Deployed:
        """What is deployed of a processor; raises `TheoryError` as `Deployer`."""
        return await self._deployer.find(self._app(self._spec(ref).ref))

    async def stop(self, ref: str) -> str:
        """Stop a processor's app and answer its name; raises `TheoryError` as `Deployer`."""
        app = self._app(self._spec(ref).ref)
        await self._deployer.stop(app)
        return app

    async def collect(self, *, dry_run: bool) -> tuple[Collected, ...]:
        """Stop the apps of this owner that nothing here deploys any more, unless it is a rehearsal.

        Law: `theory_api.domain.deployment.stale` alone says which. Raises `TheoryError` as
        `Deployer`; what was stopped before that stays stopped.
        """
        apps = await self._deployer.standing()
        found = stale(apps, self._snapshot.processors, owner=self._owner)
        for one, reason in () if dry_run else found:
            log.info("modal.collect", app=one.app, processor_ref=one.ref, reason=reason)
            try:
                await self._deployer.stop(one.app)
            except TheoryError as error:
                # Somebody else stopped it in the meantime.
                if error.code != "ERR_ENDPOINT_MISSING":
                    raise
        return tuple(Collected(one.app, one.ref, reason) for one, reason in found)

    def logs(self, ref: str, *, lines: int) -> AsyncIterator[str]:
        """The last lines that a processor's containers wrote."""
        return self._deployer.logs(self._app(self._spec(ref).ref), lines=lines)

    async def verify_digest(self, ref: str) -> tuple[Seen, ...]:
        """What both functions say they run.

        Law: where the environment says that drift fails, it does: `ERR_REGISTRY_MISMATCH`. Raises
        `ERR_HEALTH` where a function does not answer, and as `deploy`.
        """
        seen = await self._seen(ref)
        self._judge(seen)
        return seen

    async def drift(self) -> tuple[Seen, ...]:
        """What the functions of every pinned processor say they run, where it is deployed.

        Law: all of them are looked at before any fails. Raises as `verify_digest`.
        """
        seen: list[Seen] = []
        pins = self._snapshot.pins[self._environment]
        for ref in sorted(ref for ref, digests in pins.items() if PLATFORM in digests):
            try:
                seen.extend(await self._seen(ref))
            except TheoryError as error:
                if error.code != "ERR_ENDPOINT_MISSING":
                    raise
        self._judge(seen)
        return tuple(seen)

    async def _seen(self, ref: str) -> tuple[Seen, ...]:
        wanted = self._wanted(ref)
        found = await self._deployer.find(wanted.app)
        seen = []
        for function, url in sorted(found.urls.items()):
            answer = await self._ask("GET", f"{url}/healthz")
            digest = answer.headers.get(DIGEST_HEADER, "")
            seen.append(Seen(ref, function, url, wanted.image_digest, digest))
        return tuple(seen)

    def _judge(self, seen: Sequence[Seen]) -> None:
        """Drift is told, and fails where the environment says so; digests alone are compared."""
        drifted = [one for one in seen if one.drifted]
        for one in drifted:
            log.warning("modal.drift", processor_ref=one.ref, functions=one.function)
        if drifted and self._snapshot.environments[self._environment]["drift"] == "fail":
            where = ", ".join(f"{one.ref} in {one.function}" for one in drifted)
            message = f"registry mismatch: another image runs than is pinned: {where}"
            raise TheoryError("ERR_REGISTRY_MISMATCH", message, {"lane": self._environment})

    async def probe(self, ref: str) -> str | None:
        """Ask the function that has no secret to run in mode real; the code that it refuses with.

        Law: only `ERR_MISSING_SECRET` passes; any other answer raises `ERR_CI_SAFETY`. None: the
        processor declares no secret, and there is nothing to ask. Raises `ERR_HEALTH` and as
        `Deployer` besides.
        """
        spec = self._spec(ref)
        if not spec.secrets_required:
            return None
        found = await self._deployer.find(self._app(ref))
        url = found.urls.get(function_of("mock"))
        if url is None:
            message = f"endpoint missing: {found.app} has no function without secrets"
            raise TheoryError("ERR_ENDPOINT_MISSING", message, {})
        body = canonicalize({"execution_id": PROBE, "payload": self._payload(spec)})
        answer = await self._ask("POST", f"{url}/run", body)
        code = _code(answer.content)
        if code != "ERR_MISSING_SECRET":
            message = f"{ERROR_CODES['ERR_CI_SAFETY'].summary}: the probe was answered {code}"
            raise TheoryError("ERR_CI_SAFETY", message, {"app": found.app})
        return code

    async def _ask(self, method: str, url: str, body: bytes | None = None) -> httpx.Response:
        """An answer of a function; a redirect is none."""
        headers = {**self._headers, "Content-Type": "application/json"}
        way = self._transport or httpx.AsyncHTTPTransport(retries=0)
        try:
            async with httpx.AsyncClient(transport=way, timeout=ANSWER_S) as client:
                answer = await client.request(method, url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise _unhealthy(type(error).__name__) from error
        if answer.status_code != httpx.codes.OK:
            raise _unhealthy(f"status {answer.status_code}")
        return answer

    def _spec(self, ref: str) -> ProcessorSpec:
        return self._snapshot.processor(ref)

    def _wanted(self, ref: str) -> Deployment:
        digest = self._snapshot.pin(ref, lane=self._environment, platform=PLATFORM)
        spec, app = self._spec(ref), self._app(ref)
        return deployment(spec, app=app, image_digest=digest, owner=self._owner)

    def _payload(self, spec: ProcessorSpec) -> dict[str, Any]:
        return {
            "schema": "v1",
            "ref": spec.ref,
            "mode": "real",
            "inputs": {"schema": "v1", "params": {}},
            "write_prefix": f"/artifacts/outputs/{spec.slug}/{PROBE}/",
            "upload": {
                # Nothing is ever delivered there.
                "url": "https://localhost/objects/",
                "headers": {},
                "expires_at": "1970-01-01T00:00:00.000000Z",
                "max_bytes": 0,
            },
            "env_fingerprint": env_fingerprint(spec, platform=PLATFORM, mode="real"),
            "registry_snapshot": self._snapshot.id,
            "timeout_s": 1,
            "secrets": list(spec.secrets("real")),
        }


def _code(body: bytes) -> str:
    """The code of an error envelope or a problem; what it was otherwise, in a word."""
    if len(body) > min(_ANSWER_BYTES, LIMITS["frame_bytes"]):
        return "at length"
    try:
        document = loads_strict(body)
        code = document.get("error", document).get("code") or document["status"]
    except (TheoryError, KeyError, AttributeError):
        return "with something else"
    return code if code in ERROR_CODES else "with a success" if code == "success" else "otherwise"


def _unhealthy(reason: str) -> TheoryError:
    return TheoryError("ERR_HEALTH", f"{ERROR_CODES['ERR_HEALTH'].summary}: {reason}", {})
