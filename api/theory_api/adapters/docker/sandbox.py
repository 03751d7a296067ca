"""The whole create request of a container: everything that a processor may and may not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from theory_api.adapters.run_v1.calling import coded
from theory_api.domain.processor import ProcessorSpec

INSIDE: Final = "/run/theory"
"""Where the folder of an execution is mounted."""
WORK: Final = f"{INSIDE}/work"
SCRATCH: Final = ("/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108 - the container's own
"""Where a processor may leave something besides `work`, which each run has of its own."""
USER: Final = "10001:10001"
PIDS: Final = 256
LABEL_HOME: Final = "theory.home"
LABEL_EXECUTION: Final = "theory.execution"
LABEL_WARM: Final = "theory.warm"
LABEL_REF: Final = "theory.ref"
STOP_S: Final = 5
"""Between the request to stop and the kill."""

_FILES: Final = 1024
_SHM: Final = 16 << 20
_TMP: Final = "rw,noexec,nosuid,nodev,size={size},mode=1777"
_LEAST_MEMORY: Final = 64 << 20
_POWERS: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
_BILLION: Final = 1_000_000_000


_NO_SYSTEM_V: Final[Mapping[str, str]] = {
    "kernel.shmmni": "0",
    "kernel.msgmni": "0",
    "kernel.sem": "0 0 0 0",
}
"""Memory, queues and semaphores that outlive every process and have no path: none can be made."""

_QUIET: Final[Mapping[str, Any]] = {
    "Env": [],
    "Tty": False,
    "OpenStdin": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Healthcheck": {"Test": ["NONE"]},
}


_LOG: Final[Mapping[str, str]] = {"max-size": "512k", "max-file": "2", "compress": "false"}
"""Two files: one alone is emptied when it is full, and a run's last words with it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use, as its registry spec declares it."""

    cpu: str
    """Processors, e.g. `1` or `0.5`."""
    memory: str
    """E.g. `1Gi`; all of it, files in memory included."""

    @property
    def nano_cpus(self) -> int:
        """Processors in units of the engine."""
        try:
            return int(Decimal(self.cpu) * _BILLION)
        except InvalidOperation as error:
            raise coded("ERR_ADAPTER_INVOCATION", "cpu") from error

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        number, power = self.memory, 0
        for unit, bits in _POWERS.items():
            if self.memory.endswith(unit):
                number, power = self.memory.removesuffix(unit), bits
        if not (number.isascii() and number.isdigit()):
            raise coded("ERR_ADAPTER_INVOCATION", "memory")
        return max(int(number) << power, _LEAST_MEMORY)


def limits(spec: ProcessorSpec) -> Limits:
    """What a container of a processor may use."""
    return Limits(spec.runtime.cpu, spec.runtime.memory)


def _arguments(image_id: str, image_digest: str | None, *, reused: bool) -> list[str]:
    arguments = ["--serve", INSIDE]
    if image_digest is not None:
        arguments += ["--image-digest", image_digest]
    else:
        arguments += ["--image-id", image_id]
    if reused:
        arguments += [word for place in SCRATCH for word in ("--scratch", place)]
    return arguments


def create_request(
    *,
    image_id: str,
    image_digest: str | None,
    folder: str,
    limits: Limits,
    labels: Mapping[str, str],
    secrets: str = "",
    reused: bool = False,
) -> dict[str, Any]:
    """The body of the engine's `POST /containers/create`.

    Law: the image by its id, no capability, no new privilege, a root that cannot be written, no
    network whatever the spec says, one bind to write to: the folder of the execution. `folder` and
    `secrets` are on the engine's machine. One that is `reused` has to clean after each run.
    """
    binds = [f"{folder}:{INSIDE}:rw"]
    if secrets:
        binds.append(f"{secrets}:{INSIDE}/secrets:ro")
    memory = limits.memory_bytes
    return {
        **_QUIET,
        "Image": image_id,
        "Cmd": _arguments(image_id, image_digest, reused=reused),
        "User": USER,
        "NetworkDisabled": True,
        "StopTimeout": STOP_S,
        "Labels": dict(labels),
        "HostConfig": {
            "Binds": binds,
            "Tmpfs": {
                "/tmp": _TMP.format(size=memory // 4),  # noqa: S108 - the container's own
                WORK: _TMP.format(size=memory // 2),
            },
            "NetworkMode": "none",
            "Privileged": False,
            "ReadonlyRootfs": True,
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "IpcMode": "private",
            "Sysctls": dict(_NO_SYSTEM_V),
            "ShmSize": _SHM,
            "PidMode": "",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "Init": True,
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": limits.nano_cpus,
            "PidsLimit": PIDS,
            "Ulimits": [
                {"Name": "nofile", "Soft": _FILES, "Hard": _FILES},
                {"Name": "core", "Soft": 0, "Hard": 0},
                # No more than what it may write to anyway can hold.
                {"Name": "fsize", "Soft": memory // 2, "Hard": memory // 2},
            ],
            "OomKillDisable": False,
            "PublishAllPorts": False,
            "PortBindings": {},
            "Devices": [],
            "VolumesFrom": [],
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {"Type": "local", "Config": dict(_LOG)},
        },
    }
