"""Whether this machine is the one that an environment fingerprint declares."""

import platform
import re
import sys
from typing import Final

from theory_runtime.fault import fault

_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PYTHON: Final = re.compile(r"python([0-9]+(?:\.[0-9]+)*)")
_MEMORY: Final = re.compile(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti)?")
_POWERS: Final = {None: 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}


def facts(fingerprint: str) -> dict[str, str]:
    """The declared facts by key."""
    return dict(fact.partition(":")[::2] for fact in fingerprint.split(";"))


def architecture() -> str:
    """`amd64` or `arm64`, or what the machine calls itself."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def check(fingerprint: str) -> None:
    """Law: another architecture or Python than declared is a mismatch, not a silent lie.

    `runtime:python3` means any Python 3, `runtime:python3.11` any 3.11. Raises `TheoryError`
    `ERR_REGISTRY_MISMATCH` with `detail.reason` and what was found.
    """
    declared = facts(fingerprint)
    here = architecture()
    if declared.get("platform") != here:
        raise fault("ERR_REGISTRY_MISMATCH", "platform", found=here)
    version = ".".join(map(str, sys.version_info[:3]))
    runtime = declared.get("runtime", "")
    match = _PYTHON.fullmatch(runtime)
    if match is None or not f"{version}.".startswith(f"{match[1]}."):
        raise fault("ERR_REGISTRY_MISMATCH", "runtime", found=version)


def memory_bytes(fingerprint: str) -> int | None:
    """The declared memory, or None if it is not a size."""
    match = _MEMORY.fullmatch(facts(fingerprint).get("memory", ""))
    return None if match is None else int(match[1]) << _POWERS[match[2]]
