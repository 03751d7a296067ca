"""The native module; its functions raise `TheoryError` and nothing else.

A call with too few or too many arguments is Python's own `TypeError`. An argument of a type that a
function does not take is `ERR_INPUTS`, at the two doors of canonical JSON `ERR_JSON_TYPE`.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, final

HASH_SCHEMA: Final[str]
"""Label of the canonical form and the digest together: `rfc8785-blake3-v1`."""

UNICODE: Final[str]
"""The Unicode version of every table in the core."""

FACETS: Final[tuple[str, ...]]
"""Facets that a WorldPath may name; the last four exist where the registry declares them."""

LIMITS: Final[dict[str, int]]
"""Name and value of every limit; names end in their unit."""

def canonicalize(obj: object, /) -> bytes:
    """Canonical JSON (RFC 8785) of a Python object: UTF-8 without blanks, names sorted.

    Takes None, bool, int within ±(2^53 - 1), finite float, str, list, tuple and dict with str keys;
    a subclass counts as its base. Errors: `ERR_JSON_TYPE`, `ERR_JSON_NUMBER`, `ERR_JSON_UNICODE`
    (lone surrogate, noncharacter), `ERR_JSON_DEPTH` (over 256, or a cycle), `ERR_JSON_DUPLICATE`
    (keys of str subclasses that hold the same text). Source: spec, canonical JSON.
    """

def canonicalize_json(data: bytes | str, /) -> bytes:
    """Canonical JSON of a JSON text, read strictly (RFC 8259 and I-JSON).

    Errors, with `offset` (bytes), `line` and `column` in the detail: `ERR_JSON_SYNTAX`,
    `ERR_JSON_UTF8`, `ERR_JSON_DUPLICATE`, `ERR_JSON_NUMBER`, `ERR_JSON_UNICODE`, `ERR_JSON_DEPTH`;
    `ERR_JSON_TYPE` for anything but bytes and str. Source: spec, canonical JSON.
    """

def loads_strict(data: bytes | str, /) -> Any:  # noqa: ANN401 - JSON is what it is
    """Value of a JSON text; errors as `canonicalize_json`.

    `canonicalize(loads_strict(t)) == canonicalize_json(t)`. Objects become dicts in the order read.
    """

def inputs_hash(obj: object, /) -> str:
    """Digest of `canonicalize(obj)`; errors as there."""

def digest(data: bytes | bytearray | memoryview, /) -> str:
    """Digest of some bytes: `b3:` and 64 lowercase hexadecimal digits of BLAKE3-256."""

def digest_file(path: str | PathLike[str], *, threads: int | None = None) -> str:
    """Digest of a file's bytes, read once, with at most `threads` threads.

    Errors: `ERR_NOT_FOUND`, `ERR_STORAGE` when it cannot be read, `ERR_INPUTS` for bad arguments.
    """

@final
class Hasher:
    """Digest of bytes that arrive in pieces; may be shared by threads."""

    def __new__(cls) -> Hasher: ...
    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes; `ERR_INPUTS` for anything else."""

    def digest(self) -> str:
        """Written digest of what was added so far."""

@final
class WorldPath:
    """A canonical address: `/world/{tenant}/{plan}/{facet}[/{segment}…][/]`; frozen, hashable.

    `text` is absolute, a `world://` URI, or plan-relative (`/{facet}/…`); then `root` names the
    plan: `/world/{tenant}/{plan}` or any WorldPath inside it. Errors, the first step that fails and
    there the leftmost segment: `ERR_PATH_TOO_LONG`, `ERR_PATH_SYNTAX`, `ERR_PERCENT_DECODE`,
    `ERR_DECODED_SLASH`, `ERR_DOT_SEGMENTS`, `ERR_FORBIDDEN_SEGMENT`, `ERR_SEGMENT_TOO_LONG`,
    `ERR_BAD_FACET`. `WorldPath(str(p)) == p`. Source: spec, WorldPath.
    """

    def __new__(cls, text: str | WorldPath, root: str | WorldPath | None = None) -> WorldPath: ...
    @property
    def tenant(self) -> str:
        """Name of the tenant."""

    @property
    def plan(self) -> str:
        """Name of the plan."""

    @property
    def root(self) -> str:
        """Address of the plan: `/world/{tenant}/{plan}`."""

    @property
    def facet(self) -> str:
        """One of `FACETS`."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Canonical segments after the facet."""

    @property
    def is_prefix(self) -> bool:
        """Whether the path ends in a slash and so names everything below it."""

    @property
    def uri(self) -> str:
        """The same address with the scheme `world://`."""

    @property
    def relative(self) -> str:
        """The plan-relative form: `/{facet}[/{segment}…][/]`."""

    def join(self, rel: str, /) -> WorldPath:
        """Path below this one; `rel` follows the rules of segments and has no leading slash."""

    def contains(self, other: WorldPath, /) -> bool:
        """Whether everything that `other` names is named by this path too."""

    def overlaps(self, other: WorldPath, /) -> bool:
        """Whether both may name one address: equal segments, or a prefix that begins the other."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Selector:
    """A path and whether it means itself (`exact`) or everything below it (`prefix`).

    Errors: `ERR_SELECTOR_KIND_MISMATCH` when kind and trailing slash disagree, and those of
    `WorldPath`. Source: spec, WorldPath, selectors.
    """

    def __new__(
        cls,
        kind: Literal["exact", "prefix"] | str,  # noqa: PYI051 - documents bring any text
        path: str | WorldPath,
        root: str | WorldPath | None = None,
    ) -> Selector: ...
    @property
    def kind(self) -> Literal["exact", "prefix"]:
        """What the selector means."""

    @property
    def path(self) -> WorldPath:
        """The path; it has a trailing slash exactly when the kind is `prefix`."""

    def contains(self, other: Selector, /) -> bool:
        """Whether everything that `other` names is named by this selector too."""

    def overlaps(self, other: Selector, /) -> bool:
        """Whether both may name one address."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

def check_writable(selector: Selector, /) -> None:
    """Refuse a write set that a processor may not have.

    Errors: `ERR_BAD_FACET` for the facets plan and ledger, `ERR_FORBIDDEN_SEGMENT` for one that
    touches `/artifacts/execution/`. Source: spec, WorldPath, facets.
    """

def expand_prefix(
    template: str, execution_id: str, root: str | WorldPath | None = None
) -> WorldPath:
    """Write prefix of an execution: the template with `{execution_id}` replaced, canonical.

    Errors: `ERR_PREFIX_TEMPLATE` unless the placeholder stands exactly once, as a whole segment
    after the facet, without any other brace; `ERR_SELECTOR_KIND_MISMATCH` without a trailing slash;
    `ERR_INPUTS` for a bad execution id; those of `WorldPath` and `check_writable`.
    """

def check_outputs(paths: Sequence[WorldPath], /) -> None:
    """Refuse outputs of which two are equal or one is a proper ancestor of another.

    Errors: `ERR_OUTPUT_DUPLICATE`; `index` and `other` in the detail are places in the list.
    """

def resolve_outputs(prefix: WorldPath, rels: Sequence[str], /) -> list[WorldPath]:
    """Canonical paths of relative outputs under a write prefix, in the order given.

    Errors: those of `WorldPath` with the output's `index` in the detail,
    `ERR_SELECTOR_KIND_MISMATCH` for a trailing slash, `ERR_OUTPUT_DUPLICATE` as `check_outputs`.
    """

def is_name(text: object, /) -> bool:
    """Whether the text is a valid tenant, plan, transition or execution id."""

CATALOGUE: Final[tuple[tuple[str, int, bool, str, str], ...]]
"""Code, status, retryable, summary and remedy of every error; read it as `ERROR_CODES`."""

EVENT_VERSION: Final[str]
"""The one version of events, their member `v`: `theory.event.v1`."""

def event_hash(prev: str | None, event: Mapping[str, object] | bytes, /) -> str:
    """Hash of one event: BLAKE3 of the previous hash and the event's canonical bytes, as `b3:…`.

    `prev` is the written hash of the event before, None exactly at seq 1; `event` an object or its
    stored bytes. Errors as `Chain.append`; `ERR_INPUTS` with reason `bytes` for bytes that are not
    canonical. Source: spec, ledger.
    """

def execution_id(plan: str, transition: str, attempt: int) -> str:
    """Name of one attempt, 1 to 1000, computed alike by everybody: `x` and 32 hexadecimal digits.

    `plan` is `/world/{tenant}/{plan}`. Errors: `ERR_INPUTS` with the bad `member` in the detail.
    Source: spec, plans and transitions.
    """

@final
class Chain:
    """The growing end of one plan's ledger; may be shared by threads.

    `prev` is the last event there is: None before seq 1, its hash, or a tuple (seq, hash) or (seq,
    hash, at). With a hash alone any seq from 2 on may follow; without `at` the next time stamp is
    not compared. `plan` binds the chain before its first event does. Errors: `ERR_INPUTS`. Source:
    spec, ledger.
    """

    def __new__(
        cls,
        prev: str | tuple[int, str] | tuple[int, str, str | None] | None = None,
        *,
        plan: str | None = None,
    ) -> Chain: ...
    def append(self, events: Sequence[Mapping[str, object]], /) -> list[tuple[bytes, str]]:
        """Append events in order, all or none: the bytes to store and the hash of each.

        An event is `{"v", "plan", "seq", "at", "kind", "data"}`. Errors, with the event's `index`
        and a `reason` in the detail: `ERR_INPUTS` (`schema` with the bad `member`, `plan`, `gap`,
        `order`), `ERR_JSON_NUMBER` (`schema`: a number that is not an integer within ±(2^53 - 1));
        `ERR_TOO_LARGE` over 256 KiB, `ERR_JSON_DEPTH` over 255, the other codes of `canonicalize`.
        """

    @property
    def plan(self) -> str | None:
        """The plan, once it is known."""

    @property
    def seq(self) -> int | None:
        """Seq of the last event, 0 before the first; None while only its hash is known."""

    @property
    def hash(self) -> str | None:
        """Hash of the last event."""

    @property
    def at(self) -> str | None:
        """Time stamp of the last event, if it is known."""

@final
class Verifier:
    """Judges an export that arrives in pieces; `theory_core.verify` is the way to use it."""

    def __new__(
        cls,
        expect_head: tuple[int, str] | None,
        expect_prev: tuple[int, str] | str | None,
        allow_empty: bool,
        laws: bool,
        threads: int | None,
    ) -> Verifier: ...
    def feed(self, data: bytes, /) -> bool:
        """Take bytes; whether more can still change the answer."""

    def feed_line(self, line: bytes, /) -> bool:
        """Take one line, its line feed is optional; whether more can still change the answer."""

    def finish(
        self,
    ) -> tuple[
        int,
        tuple[int, str] | None,
        bool,
        tuple[int | None, str, int, str | None, str | None] | None,
        str,
    ]:
        """Count, head, anchored, fault (seq, reason, line, law, member) and verdict; once only."""

RUN_SUBPROTOCOL: Final[str]
"""The WebSocket subprotocol of a run: `theory.run.v1`."""

def validate_envelope(
    envelope: Mapping[str, object] | bytes,
    /,
    *,
    execution_id: str | None = None,
    write_prefix: str | WorldPath | None = None,
    expected_digest: str | None = None,
) -> dict[str, Any]:
    """The envelope as a dict, if it is one and answers what was asked; closed, nothing is dropped.

    `envelope` is an object or JSON text in bytes; what is None is not compared. With `execution_id`
    it is judged as the answer to that request: `image_digest` is there exactly when
    `expected_digest` is given. `write_prefix` is expanded and ends in a slash.

    Errors: `ERR_ADAPTER_INVOCATION` (malformed, with `place` and `problem`, or `reason` where it is
    no JSON; of another execution; "invalid index_path root"; outputs not canonical or not sorted by
    path, with `index`), `ERR_OUTPUT_DUPLICATE`, `ERR_OUTPUT_PREFIX`, `ERR_REGISTRY_MISMATCH` for
    another image digest; `ERR_INPUTS` and the codes of `WorldPath` for bad expectations. Source:
    spec, envelope.
    """

def success_envelope(
    execution_id: str,
    outputs: Sequence[Mapping[str, object]],
    *,
    write_prefix: str | WorldPath,
    env_fingerprint: str,
    image_digest: str | None = None,
) -> bytes:
    """Canonical bytes of a success; `outputs` are `{path, cid, size_bytes, mime}` in any order.

    Paths are plan-relative and canonical, below `outputs/` of the write prefix. Errors as
    `validate_envelope`. Source: spec, envelope.
    """

def error_envelope(
    execution_id: str,
    code: str,
    *,
    env_fingerprint: str,
    reason: str | None = None,
    stderr_tail: bytes | str | None = None,
) -> bytes:
    """Canonical bytes of an error.

    The message is the catalogue's summary of `code`; `reason` follows it and a colon, unless it
    starts with the summary. `reason` is one line with validated fields, never exception text; with
    the summary at most 1024 bytes. `stderr_tail` is redacted already; it is cut to its last 2 KiB.

    Errors: `ERR_INPUTS` for an unknown code, else as `validate_envelope`. Source: spec, envelope.
    """

def validate_frame(frame: bytes | str, /, direction: Literal["client", "server"]) -> dict[str, Any]:
    """A text frame of `theory.run.v1` that the named side sent, as `{"kind", "seq"?, "content"}`.

    Unknown members are refused in frames of clients and left out of frames of servers. Clients send
    `RunOpen{role, execution_id, payload?, resume_from?}` (payload from the role client alone) and
    `Control{op, budget?}` (budget exactly with `set_budget`), without seq. Servers send
    `Ack{execution_id, state, image_digest?}` and `Gap{from, to}` with seq 0, and with seq from 1
    `Token{text}`, `Frame{stream, index, mime, data}` (base64), `Log{level, message}` (level debug,
    info, warning or error; at most 64 KiB), `Event{phase, progress?, usage?}` (progress 0 to 1,
    usage by budget dimension) and `RunResult`, an envelope.

    Errors, `close` in the detail being the WebSocket close code that answers: `ERR_WS_PROTOCOL`
    with 1002 for a wrong kind, 1008 for wrong content (`place` and `problem` name the member);
    `ERR_TOO_LARGE` with 1009 over 8 MiB; a RunResult has the codes of `validate_envelope` with
    1008. Source: spec, run.v1.
    """

def encode_frame(kind: str, content: Mapping[str, object], *, seq: int | None = None) -> bytes:
    """Canonical text of a frame; every member has to be known. Errors as `validate_frame`."""

@final
class RunProtocol:
    """One end of one connection of `theory.run.v1`: what may be said when; does no IO.

    `side` is the end that is held here. `RunOpen` comes first, then `Ack`, then the run's frames
    from `resume_from` + 1 without holes (`Gap` covers what is gone), one `RunResult`, nothing after
    it; `Control` from controllers alone. A refused frame leaves the state as it was; close with the
    detail's `close`. Source: spec, run.v1.
    """

    def __new__(cls, side: Literal["client", "server"]) -> RunProtocol: ...
    def receive(self, frame: bytes | str, /) -> dict[str, Any]:
        """A frame of the other end, as `validate_frame`; `ERR_WS_PROTOCOL` out of order too."""

    def send(self, kind: str, content: Mapping[str, object], *, seq: int | None = None) -> bytes:
        """Text of a frame of this end, as `encode_frame`; `ERR_WS_PROTOCOL` out of order too."""

    @property
    def phase(self) -> Literal["opening", "greeting", "running", "done"]:
        """Where the connection stands."""

    @property
    def next_seq(self) -> int:
        """Number of the run's next frame on this connection."""
