# ruff: noqa: INP001 - a script's neighbour, not a package
"""Types of the members of event data: for each its schema, a sample, and what it does not take."""

from typing import Any, NamedTuple

Json = Any
Schema = dict[str, Any]

INTEGER_MAX = 2**53 - 1
DIMENSIONS = ("usd_micro", "cpu_ms", "gpu_ms", "io_bytes", "co2_mg", "tokens", "latency_ms")


class Type(NamedTuple):
    """What a member may hold."""

    schema: Schema
    sample: Json
    wrong: tuple[Json, ...]

    def like(self, sample: Json) -> "Type":
        """The same type with another sample."""
        return self._replace(sample=sample)


class Maybe(NamedTuple):
    """A member that may be absent, never null; `shown` puts it into the sample event."""

    type: Type
    shown: bool = True


Members = dict[str, Type | Maybe]


def typed(member: Type | Maybe) -> Type:
    """The type of a member, required or not."""
    return member.type if isinstance(member, Maybe) else member


def text(pattern: str | None = None, *, sample: str, most: int, least: int = 1) -> Type:
    """Text of bounded length."""
    schema: Schema = {"type": "string", "minLength": least, "maxLength": most}
    if pattern:
        schema["pattern"] = pattern
    wrong: list[Json] = [7, None, "x" * (most + 1)]
    if least or pattern:
        wrong.append("")
    return Type(schema, sample, tuple(wrong))


def word(pattern: str, sample: str, *wrong: Json) -> Type:
    """Text that a pattern bounds by itself."""
    return Type({"type": "string", "pattern": pattern}, sample, (7, None, "", *wrong))


def integer(sample: int, *, least: int = 0, most: int = INTEGER_MAX) -> Type:
    """A whole number within bounds."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Type(schema, sample, (least - 1, most + 1, 1.5, "1", None))


def one_of(*names: str) -> Type:
    """One of some names; the first is the sample."""
    return Type({"enum": list(names)}, names[0], ("other", None, 7))


def always(name: str) -> Type:
    """One fixed text."""
    return Type({"const": name}, name, ("other", None))


def array(item: Type, *, least: int = 0, most: int | None = None, unique: bool = False) -> Type:
    """A list of one type."""
    schema: Schema = {"type": "array", "items": item.schema}
    wrong: list[Json] = [None, {}, [item.wrong[0]]]
    if least:
        schema["minItems"] = least
        wrong.append([])
    if most is not None:
        schema["maxItems"] = most
    if unique:
        schema["uniqueItems"] = True
        wrong.append([item.sample, item.sample])
    return Type(schema, [item.sample], tuple(wrong))


def closed(members: Members) -> Type:
    """An object of these members and no other."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, member in members.items() if isinstance(member, Type)],
        "properties": {name: typed(member).schema for name, member in members.items()},
    }
    sample = {
        name: typed(member).sample
        for name, member in members.items()
        if isinstance(member, Type) or member.shown
    }
    wrong: list[Json] = [None, [], {**sample, "more": 1}]
    for name, member in members.items():
        if isinstance(member, Type):
            wrong.append({key: value for key, value in sample.items() if key != name})
        wrong.extend({**sample, name: value} for value in typed(member).wrong)
    return Type(schema, sample, tuple(wrong))


def mapping(schema: Schema, sample: dict[str, Json], *wrong: Json) -> Type:
    """An object of any names, or of those that the schema lists."""
    return Type({"type": "object", **schema}, sample, (None, [], *wrong))


HEX64 = "[0-9a-f]{64}"
NAME = r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}"

ID = word(f"^{NAME}$", "render-frames", "Render", "a..b", "-a", "a" * 64, "a/b")
PLAN = word(
    f"^/world/{NAME}/{NAME}$",
    "/world/acme/p1",
    "/world/acme",
    "/world/acme/p1/",
    "world://acme/p1",
)
DIGEST = word(f"^b3:{HEX64}$", "b3:" + "5e" * 32, "sha256:" + "5e" * 32, "b3:" + "5E" * 32)
OCI = word(f"^sha256:{HEX64}$", "sha256:" + "0c" * 32, "b3:" + "0c" * 32)
EXECUTION = ID.like("x9cde726e5f7834b68580a5e33f0f1aa0")
FACETS = "artifacts|streams|plan|ledger|senses|effectors|memories|conversations"
ARTIFACT = "/artifacts/outputs/media-frames-v1/x9cde726e5f7834b68580a5e33f0f1aa0/"


def path(pattern_end: str, sample: str, *wrong: Json) -> Type:
    """A plan-relative canonical WorldPath."""
    pattern = rf"^/({FACETS})(/[^/?#\\{{}}]+)*{pattern_end}$"
    schema = {"type": "string", "maxLength": 1024, "pattern": pattern}
    bad = (7, None, "", "/other/a", "artifacts/a", "/artifacts//a", "/artifacts/{a}/", *wrong)
    return Type(schema, sample, bad)


EXACT = path("", ARTIFACT + "outputs/frame-0001.png", "/artifacts/a/")
PREFIX = path("/", ARTIFACT, "/artifacts/a")
TEMPLATE = text(
    r"^/[^?#\\]+$",
    sample="/artifacts/outputs/media-frames-v1/{execution_id}/",
    most=1024,
)
REF = word(
    "^[a-z][a-z0-9]{0,30}/[a-z][a-z0-9-]{0,62}@[1-9][0-9]{0,3}$",
    "media/frames@1",
    "media/frames",
    "Media/frames@1",
    "media/frames@0",
)
SHORT = text(sample="operator", most=255)
BY = SHORT.like("local")
REASON = text(sample="The source text changed.", most=1024)
MIME = text(r"^[^/\s]+/[^/\s;]+(;[ -~]+)?$", sample="image/png", most=255)
CODE = word("^ERR_[A-Z_]+$", "ERR_PROVIDER", "PROVIDER", "err_provider")
MODE = one_of("mock", "real")
LANE = one_of("build", "dev", "staging", "main")
COUNT = integer(3)
DURATION_MS = integer(60_000)
EPOCH = integer(4)
ATTEMPT = integer(1, least=1, most=1000)
VECTOR = mapping(
    {
        "additionalProperties": False,
        "properties": {name: {"$ref": "#/$defs/count"} for name in DIMENSIONS},
    },
    {"cpu_ms": 20_000, "io_bytes": 4_194_304, "usd_micro": 0},
    {"cpu_ms": -1},
    {"cpu_ms": 1.5},
    {"cpu_s": 1},
    {"cpu_ms": None},
)
FACTS = mapping(
    {"additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/integer"}]}},
    {"dimension": "cpu_ms", "hold": 20_000},
    {"a": 1.5},
    {"a": None},
    {"a": []},
)
PARAMS = mapping(
    {"additionalProperties": {"$ref": "#/$defs/json"}},
    {"path": ARTIFACT + "outputs/", "count": 4},
    {"a": 1.5},
)
BASIS = mapping(
    {
        "additionalProperties": False,
        "properties": {name: {"enum": ["measured", "reported", "hold"]} for name in DIMENSIONS},
    },
    {"cpu_ms": "measured", "io_bytes": "measured", "usd_micro": "hold"},
    {"cpu_ms": "guessed"},
    {"cpu_s": "measured"},
)
PREDICATE_NAME = word("^[a-z][a-z0-9_.]*@[1-9][0-9]{0,3}$", "file.count_min@1", "file.count_min")

SELECTOR = Type(
    {
        "oneOf": [
            closed({"kind": always("prefix"), "path": PREFIX}).schema,
            closed({"kind": always("exact"), "path": EXACT}).schema,
        ]
    },
    {"kind": "prefix", "path": PREFIX.sample},
    (None, {"kind": "exact", "path": PREFIX.sample}, {"kind": "prefix"}, {"path": PREFIX.sample}),
)
SELECTOR_TEMPLATE = closed({"kind": one_of("prefix", "exact"), "path": TEMPLATE})
ERROR = closed(
    {
        "code": CODE,
        "message": REASON.like("provider call failed: status 503"),
        "detail": FACTS.like({"status": 503}),
    }
)
PREDICATE = closed({"name": PREDICATE_NAME, "params": PARAMS})
VERDICT = closed(
    {
        "name": PREDICATE_NAME,
        "params": PARAMS,
        "verdict": one_of("true", "false", "error"),
        "reason": REASON.like("4 files, at least 4 are needed"),
        "at_seq": integer(18),
    }
)
ENDINGS: Members = dict.fromkeys(("succeeded", "failed", "skipped", "cancelled", "refused"), COUNT)
COUNTS = closed(ENDINGS)
BYTES = integer(48_213)
INPUT = closed({"path": EXACT, "cid": DIGEST, "size_bytes": BYTES})
OUTPUT = closed({"path": EXACT, "cid": DIGEST, "size_bytes": BYTES, "mime": MIME})
POLICY = closed(
    {
        "ref": SHORT.like("default@1"),
        "on_refused": one_of("fail", "pause"),
        "on_breach": one_of("fail", "pause"),
        "lease_ms": DURATION_MS,
        "retry": closed(
            {
                "max_attempts": integer(2, least=1, most=100),
                "backoff_ms": array(integer(1000), least=1),
                "jitter_permille": integer(100, most=1000),
                "retry_on": array(CODE),
            }
        ),
    }
)

DEFS: dict[str, Schema] = {
    "count": {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX},
    "integer": {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX},
    "json": {
        "anyOf": [
            {"type": ["null", "boolean", "string"]},
            {"$ref": "#/$defs/integer"},
            {"type": "array", "items": {"$ref": "#/$defs/json"}},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/json"}},
        ]
    },
}
"""Shared definitions; a schema carries those that it refers to."""
