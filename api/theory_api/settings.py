"""Every setting of a process, read once from its environment and its command line."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from theory_api.domain.deployment import owner_of
from theory_core import TheoryError

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})
_LEVELS: Final = ("debug", "info", "warning", "error")
_PORT_MOST: Final = 65_535
_UNTOLD: Final = frozenset({"environment", "modal_key", "modal_secret"})
_PLATFORMS: Final = ("amd64", "arm64")
_LANES: Final = ("build", "dev", "staging", "main")

VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "home": ("THEORY_HOME", "folder that holds all state; default .theory"),
    "database_url": (
        "THEORY_DATABASE_URL",
        "sqlite:///PATH or postgresql://USER@HOST:PORT/NAME; default {home}/theory.db",
    ),
    "log_level": ("THEORY_LOG", "debug, info, warning or error"),
    "lane": ("THEORY_LANE", "lane of one-shot runs: build, dev, staging or main"),
    "platform": ("THEORY_PLATFORM", "amd64 or arm64: what runs are for; default this machine's"),
    "run_target": ("RUN_TARGET", "default of --adapter; process"),
    "docker_host": ("DOCKER_HOST", "address of the Docker engine of this machine"),
    "docker_runtime": (
        "THEORY_DOCKER_RUNTIME",
        "container runtime that the engine must use, such as runsc; default the engine's own",
    ),
    "image_registry": ("THEORY_IMAGE_REGISTRY", "host that pinned images are pulled from"),
    "health_s": (
        "THEORY_HEALTH_S",
        "seconds that a server elsewhere has to become healthy; default 15",
    ),
    "local_url": (
        "THEORY_LOCAL_URL",
        "server that local-http speaks to, http://… or unix:///…; {slug} is the processor's",
    ),
    "gateway_listen": (
        "THEORY_GATEWAY_LISTEN",
        "HOST:PORT where runs elsewhere deliver; default a free port of loopback",
    ),
    "gateway_url": (
        "THEORY_GATEWAY_URL",
        "address that Modal reaches the gateway by: a proxy that ends TLS before it",
    ),
    "modal_owner": (
        "THEORY_MODAL_OWNER",
        "comes before the names of Modal apps; default user and branch, in CI nothing",
    ),
    "modal_key": ("THEORY_MODAL_KEY", "key of a Modal proxy token, for who speaks to its apps"),
    "modal_secret": ("THEORY_MODAL_SECRET", "secret of that token"),
    "ci": ("CI", "true refuses mode real"),
    "tenant": ("THEORY_TENANT", "tenant of this machine's user; default local"),
    "registry": ("THEORY_REGISTRY", "folder of registry specs"),
    "processors": ("THEORY_PROCESSORS", "folder of processor sources"),
    "wheels": ("THEORY_WHEELS", "folder of the theory-core and theory-runtime wheels"),
    "cache": ("THEORY_CACHE", "folder of processor environments; default ~/.cache/theory"),
    "parallel": ("THEORY_PARALLEL", "executions at once; default 4"),
    "shards": (
        "THEORY_SHARDS",
        "parts of a PostgreSQL ledger that schedulers share out; for good; default 8",
    ),
    "ledger_heads": (
        "THEORY_LEDGER_HEADS",
        "file of `theory ledger head`: nothing is written to ledgers that are behind it",
    ),
}
"""Setting -> its environment name and meaning: the one list that help and docs are made of."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """Where a PostgreSQL database is; as text it is without its password."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        """User, host, port and name: what may be logged."""
        parts = urlsplit(self.url)
        user = f"{parts.username}@" if parts.username else ""
        port = f":{parts.port}" if parts.port else ""
        return f"postgresql://{user}{parts.hostname or ''}{port}{parts.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told; nothing reads the environment after this."""

    home: Path
    database: Path | PostgresUrl
    """The SQLite file, or the server that many processes share."""
    log_level: str
    lane: str
    run_target: str
    docker_host: str
    docker_runtime: str
    """Empty for the engine's usual address."""
    image_registry: str
    """Comes before the repository of a pinned image; empty for the engine's usual one."""
    health_s: int
    local_url: str
    gateway_listen: tuple[str, int]
    gateway_url: str
    modal_owner: str
    """Empty for the names that CI deploys under."""
    ci: bool
    tenant: str
    registry: Path
    processors: Path
    wheels: Path
    migrations: Path
    cache: Path
    parallel: int
    shards: int
    """How many parts a ledger that many processes share has; a SQLite ledger is one."""
    ledger_heads: Path | None
    """The heads that the ledgers must still have before anything is written."""
    platform: str
    """`amd64` or `arm64`, or what the machine calls itself."""
    principal: str = "local"
    """Who acts, in events and idempotency scopes."""
    modal_key: str = field(default="", repr=False)
    modal_secret: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment as it was: where values of secrets that the registry lists are found."""

    def resolved(self) -> dict[str, str | int | bool]:
        """The settings as one flat record for the `config.resolved` event."""
        names = (entry.name for entry in fields(self) if entry.name not in _UNTOLD)
        values = ((name, getattr(self, name)) for name in names)
        texts = (Path, PostgresUrl, tuple)
        told = ((name, "" if value is None else value) for name, value in values)
        return {name: str(value) if isinstance(value, texts) else value for name, value in told}


def read(
    environment: Mapping[str, str] | None = None, *, interactive: bool = False, **given: object
) -> Settings:
    """Settings from `given` (the command line; None means not given), then the environment.

    `interactive` quiets the default log level for a person at a terminal. Raises `TheoryError`
    `ERR_INPUTS` naming the variable.
    """
    environ = os.environ if environment is None else environment

    def told(name: str, default: str) -> str:
        value = given.get(name)
        if value is not None:
            return str(value)
        return environ.get(VARIABLES[name][0], "") or default

    home = Path(told("home", ".theory")).expanduser().absolute()
    cache = Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "theory"
    quiet = "error" if interactive else "info"
    ci = _flag("ci", told("ci", ""))
    return Settings(
        home=home,
        database=_database(told("database_url", ""), home),
        log_level=_one_of("log_level", told("log_level", quiet).lower(), _LEVELS),
        lane=_one_of("lane", told("lane", "build"), _LANES),
        run_target=told("run_target", "process"),
        docker_host=told("docker_host", ""),
        docker_runtime=told("docker_runtime", ""),
        image_registry=told("image_registry", ""),
        health_s=_count("health_s", told("health_s", "15")),
        local_url=told("local_url", ""),
        gateway_listen=_listening(told("gateway_listen", "127.0.0.1:0")),
        gateway_url=told("gateway_url", ""),
        modal_owner=told("modal_owner", "" if ci else _owner(environ)),
        ci=ci,
        tenant=told("tenant", "local"),
        registry=_folder(told("registry", ""), "registry"),
        processors=_folder(told("processors", ""), "processors"),
        wheels=_folder(told("wheels", ""), "wheels"),
        migrations=assets("migrations"),
        cache=Path(told("cache", str(cache))).expanduser().absolute(),
        parallel=_count("parallel", told("parallel", "4")),
        shards=_count("shards", told("shards", "8")),
        ledger_heads=_file(told("ledger_heads", "")),
        platform=_platform(told("platform", "")),
        modal_key=told("modal_key", ""),
        modal_secret=told("modal_secret", ""),
        environment=dict(environ),
    )


def assets(name: str) -> Path:
    """Where shipped files lie: beside the installed package, or in the checkout it runs from."""
    package = Path(__file__).resolve().parent
    packaged = package / "_assets" / name
    if packaged.is_dir():
        return packaged
    checkout = package.parents[1]
    return checkout / ("dist" if name == "wheels" else name)


def _file(told: str) -> Path | None:
    return Path(told).expanduser().absolute() if told else None


def _folder(told: str, name: str) -> Path:
    return Path(told).expanduser().absolute() if told else assets(name)


def _database(url: str, home: Path) -> Path | PostgresUrl:
    """The file of a `sqlite:///` address (three slashes: relative, four: absolute), or a server."""
    if not url:
        return home / "theory.db"
    try:
        parts = urlsplit(url)
        known = parts.port is None or parts.port > 0
    except ValueError:
        known = False
    if known and parts.scheme in {"postgresql", "postgres"} and parts.path.strip("/"):
        return PostgresUrl(url)
    if not known or parts.scheme != "sqlite" or parts.netloc or not parts.path.strip("/"):
        message = "the truth is in SQLite or PostgreSQL: " + VARIABLES["database_url"][1]
        raise TheoryError("ERR_INPUTS", message, {"variable": VARIABLES["database_url"][0]})
    return Path(unquote(parts.path[1:])).expanduser().absolute()


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise _wrong(name, f"is one of {', '.join(known)}")
    return value


def _flag(name: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise _wrong(name, "is true or false")


def _count(name: str, value: str) -> int:
    most = 256
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:4]) <= most):
        raise _wrong(name, f"is a whole number from 1 to {most}")
    return int(value)


def _listening(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) <= _PORT_MOST):
        raise _wrong("gateway_listen", "is HOST:PORT")
    return host.strip("[]"), int(port)


def _owner(environ: Mapping[str, str]) -> str:
    """Who deploys, and from which branch: of the repository that this process stands in."""
    user = environ.get("USER") or environ.get("LOGNAME") or ""
    for folder in (Path.cwd(), *Path.cwd().parents):
        try:
            head = (folder / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        return owner_of(user, head.rpartition("refs/heads/")[2] if "refs/heads/" in head else "")
    return owner_of(user, "")


def _wrong(name: str, rule: str) -> TheoryError:
    variable = VARIABLES[name][0]
    return TheoryError("ERR_INPUTS", f"{variable} {rule}", {"variable": variable})


def _platform(told: str) -> str:
    if told:
        return _one_of("platform", told, _PLATFORMS)
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
