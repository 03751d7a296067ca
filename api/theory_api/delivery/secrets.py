"""Which secrets of the registry are missing where, and how they get there; no value is ever told.

The private source is this process's environment, or a folder with a file for each secret:
`{folder}/{secrets_scope}/{NAME}`, as `registry/environments.yaml` names the scope.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.vault import Held, Vault
from theory_core import ERROR_CODES, TheoryError

log = structlog.get_logger(__name__)

VALUE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """How one secret stands in one environment."""

    environment: str
    name: str
    source: bool
    """Whether the private source has a value for it."""
    vault: Held | None
    """None where nobody asked."""
    optional: bool = False
    """Whether processors name it, and every one of them can do without it."""

    @property
    def missing(self) -> bool:
        """Whether who was asked last does not have it, and somebody cannot do without."""
        if self.optional and self.vault in {None, Held.MISSING}:
            return False
        return not self.source if self.vault is None else self.vault is not Held.THERE


@dataclass(frozen=True, slots=True)
class Sent:
    """A secret that an environment has now."""

    environment: str
    name: str
    new: bool


@dataclass(frozen=True, slots=True)
class Source:
    """Values by environment and name."""

    values: Mapping[str, Mapping[str, str]] = field(repr=False)

    def of(self, environment: str) -> Mapping[str, str]:
        """Those of an environment."""
        return self.values.get(environment, {})

    def all(self) -> tuple[str, ...]:
        """Every value: what a log must never show."""
        return tuple(value for values in self.values.values() for value in values.values())


def allowed(snapshot: RegistrySnapshot, environment: str) -> tuple[str, ...]:
    """Names that the allow-list has for an environment."""
    listed = snapshot.secrets.items()
    return tuple(sorted(name for name, entry in listed if environment in entry["environments"]))


def optional(snapshot: RegistrySnapshot) -> frozenset[str]:
    """Names that processors can do without: some name them, and none requires them."""
    specs = snapshot.processors.values()
    required = {name for spec in specs for name in spec.secrets_required}
    return frozenset(name for spec in specs for name in spec.secrets_optional) - required


def read_source(
    snapshot: RegistrySnapshot,
    environments: Sequence[str],
    *,
    folder: Path | None,
    variables: Mapping[str, str],
) -> Source:
    """The private source of some environments, of allowed names only.

    Law: a folder that others may look into is not private. It blocks. Raises `TheoryError`
    `ERR_INPUTS`, naming a file and never what is in it.
    """
    if folder is None:
        told = {
            name: _value(variables[name].encode("utf-8", "surrogateescape"), name)
            for name in snapshot.secrets
            if variables.get(name)
        }
        return Source(
            {
                place: {name: told[name] for name in allowed(snapshot, place) if name in told}
                for place in environments
            }
        )
    return Source(
        {
            place: _read(folder / snapshot.environments[place]["secrets_scope"], snapshot, place)
            for place in environments
        }
    )


def _read(scope: Path, snapshot: RegistrySnapshot, environment: str) -> dict[str, str]:
    """The files of a scope; one that is not there has none."""
    try:
        if not scope.exists():
            return {}
        _private(scope)
        found = {}
        for file in sorted(scope.iterdir()):
            if file.name.startswith("."):
                continue
            if file.name not in allowed(snapshot, environment):
                raise _refused(f"{file.name[:64]} is not in secrets.yaml for {environment}")
            _private(file)
            with file.open("rb") as stream:
                found[file.name] = _value(stream.read(VALUE_BYTES + 2), file.name)
    except OSError as error:
        raise _refused(f"the folder {scope.name} cannot be read: {error.strerror}") from error
    return found


def _private(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _refused(f"{path.name[:64]} is open to others than its owner: chmod go= it")


def _value(raw: bytes, name: str) -> str:
    """What a file or variable holds, without the newline that editors put behind it."""
    try:
        value = raw.removesuffix(b"\n").decode("utf-8")
    except UnicodeDecodeError:
        # Its words would show a byte of the value.
        raise _refused(f"the value of {name} is not UTF-8") from None
    if not value or len(raw) > VALUE_BYTES + 1 or "\0" in value:
        raise _refused(f"the value of {name} is empty, too long, or holds a NUL")
    return value


def _refused(reason: str) -> TheoryError:
    message = f"{ERROR_CODES['ERR_INPUTS'].summary}: {reason}"
    return TheoryError("ERR_INPUTS", message, {"reason": "secrets"})


class SecretsDelivery:
    """What `theory secrets` does; `vault` opens the one of an environment."""

    def __init__(
        self, snapshot: RegistrySnapshot, source: Source, vault: Callable[[str], Vault]
    ) -> None:
        self._snapshot = snapshot
        self._source = source
        self._vault = vault

    async def check(self, environments: Sequence[str], *, ask_vaults: bool) -> tuple[Standing, ...]:
        """How every allowed secret stands; raises `TheoryError` as `Vault`."""
        seen, spared = [], optional(self._snapshot)
        for environment in environments:
            here = self._source.of(environment)
            for name in allowed(self._snapshot, environment):
                held = await self._vault(environment).standing(name) if ask_vaults else None
                seen.append(Standing(environment, name, name in here, held, name in spared))
        return tuple(seen)

    async def sync(
        self, environment: str, *, only: Sequence[str] = (), dry_run: bool
    ) -> tuple[Sent, ...]:
        """Take the values of an environment to its vault, new or in the place of the old ones.

        Laws: nothing is sent unless all of it is there, but for optional secrets that `only` does
        not name; a rehearsal sends nothing. Raises `TheoryError`: `ERR_MISSING_SECRET` (the source
        lacks a name), `ERR_INPUTS` (`only` names
        one that is not allowed there), and as `Vault`; what was sent before that stays.
        """
        names = allowed(self._snapshot, environment)
        for name in only:
            if name not in names:
                raise _refused(f"{name[:64]} is not in secrets.yaml for {environment}")
        here, spared = self._source.of(environment), optional(self._snapshot)
        wanted = [
            name
            for name in names
            if name in only or (not only and (name in here or name not in spared))
        ]
        lacking = [name for name in wanted if name not in here]
        if lacking:
            summary = ERROR_CODES["ERR_MISSING_SECRET"].summary
            message = f"{summary}: the private source has no {', '.join(lacking)}"
            remedy = "Put a value there, or name those that are to be sent (--only)."
            raise TheoryError("ERR_MISSING_SECRET", message, {"remedy": remedy})
        vault, sent = self._vault(environment), []
        for name in wanted:
            if dry_run:
                held = await vault.standing(name)
                if held is Held.NOWHERE:
                    message = f"{ERROR_CODES['ERR_ENDPOINT_MISSING'].summary}: {held.value}"
                    raise TheoryError("ERR_ENDPOINT_MISSING", message, {"lane": environment})
                new = held is Held.MISSING
            else:
                new = await vault.put(name, here[name])
                log.info("secrets.sync", environment=environment, name=name, new=new)
            sent.append(Sent(environment, name, new))
        return tuple(sent)
