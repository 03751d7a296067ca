"""Whether an engine confines what it runs, as far as it says itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from theory_api.adapters.run_v1.calling import coded


def require(info: Mapping[str, Any], *, runtime: str) -> None:
    """Refuse an engine that filters no system calls, or that has no runtime of this name.

    `info` is the engine's `GET /info`; an empty `runtime` is the engine's own. Raises `TheoryError`
    `ERR_DOCKER`. Law: what was asked for is never replaced by something weaker.
    """
    options = [str(option).split(",") for option in info.get("SecurityOptions") or ()]
    filters = [option for option in options if "name=seccomp" in option]
    if not filters or any("profile=unconfined" in option for option in filters):
        raise coded("ERR_DOCKER", "the engine filters no system calls (seccomp is unconfined)")
    if runtime and runtime not in (info.get("Runtimes") or {}):
        raise coded("ERR_DOCKER", f"the engine has no runtime {runtime}")


def confined(request: Mapping[str, Any], *, runtime: str) -> dict[str, Any]:
    """The create request, in a runtime of its own if one is set."""
    if not runtime:
        return dict(request)
    return {**request, "HostConfig": {**request["HostConfig"], "Runtime": runtime}}
