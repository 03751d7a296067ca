"""What one run was asked to do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from theory_runtime.fault import fault
from theory_runtime.machine import facts

_VERSION: Final = re.compile(r"[1-9][0-9]{0,3}")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_SPACE: Final = re.compile(r"[a-z][a-z0-9]{0,30}")


@dataclass(frozen=True, slots=True)
class Order:
    """The payload of a `RunOpen` and the execution that it is for (spec: run.v1)."""

    execution_id: str
    payload: Mapping[str, Any]

    @property
    def ref(self) -> str:
        """The processor that is meant."""
        return str(self.payload["ref"])

    @property
    def mode(self) -> str:
        """`mock` or `real`."""
        return str(self.payload["mode"])

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as they arrived."""
        return dict(self.payload["inputs"]["params"])

    @property
    def write_prefix(self) -> str:
        """Plan-relative, canonical, with a trailing slash."""
        return str(self.payload["write_prefix"])

    @property
    def fingerprint(self) -> str:
        """The declared facts of the environment."""
        return str(self.payload["env_fingerprint"])

    @property
    def timeout_s(self) -> int:
        """How long the worker may run."""
        return int(self.payload["timeout_s"])

    @property
    def max_bytes(self) -> int:
        """What all outputs together may weigh."""
        return int(self.payload["upload"]["max_bytes"])

    @property
    def expected_oci(self) -> str | None:
        """The image digest that the caller pinned."""
        return self.payload.get("expected_oci")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it may read."""
        return tuple(self.payload["secrets"]) if self.mode == "real" else ()

    @property
    def secrets_required(self) -> tuple[str, ...]:
        """Those of them that the environment declares: without one of these nothing starts."""
        declared = facts(self.fingerprint).get("secrets", "").split(",")
        return tuple(name for name in self.secrets if name in declared)

    def is_same_run(self, other: "Order") -> bool:
        """Whether another order asks for the very same; where its bytes go may differ."""
        return {**self.payload, "upload": None} == {**other.payload, "upload": None}


def own_ref(main_file: Path) -> str:
    """The reference of the processor whose `main.py` this is, from `<ns>/<name>/<v>/main.py`.

    Raises `TheoryError` `ERR_REGISTRY_MISMATCH` for a file that lies elsewhere.
    """
    space, name, version = ("", "", "", *main_file.resolve().parts)[-4:-1]
    if _SPACE.fullmatch(space) and _NAME.fullmatch(name) and _VERSION.fullmatch(version):
        return f"{space}/{name}@{version}"
    raise fault("ERR_REGISTRY_MISMATCH", "folder")
