"""Ask one address over HTTP and state what it answered; that it does not answer is a fact too."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from theory_core import Hasher, TheoryError, canonicalize
from theory_runtime import Config, OutputItem, ProcessorResult
from theory_runtime.egress import Spot, connection, locate

NAME: Final = "http-check"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.http.v1"
METHODS: Final = ("GET", "HEAD")
MAX_BODY_BYTES: Final = 1024 * 1024
"""How much of an answer is read; the digest of a longer one is of its beginning."""
DEFAULT_TIMEOUT_MS: Final = 10_000
MAX_TYPE_CHARS: Final = 100

_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_PIECE_BYTES: Final = 1 << 16

Facts = dict[str, Any]


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `http/check@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        url, method = params.get("url"), params.get("method", "GET")
        timeout_ms = params.get("timeout_ms", DEFAULT_TIMEOUT_MS)
        if method not in METHODS:
            raise TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": "method"})
        if config.mode == "real":
            began = time.monotonic()
            answer = ask(locate(url), method, timeout_ms / 1000)
            took_ms = int((time.monotonic() - began) * 1000)
            # How long it took is told, not written: the bytes of a check depend on the answer.
            config.progress("Log", {"level": "info", "message": f"answered after {took_ms} ms"})
        else:
            answer = _answer(200, "text/plain", b"")
        facts = {"schema": SCHEMA, "url": url, "method": method, **answer}
        return ProcessorResult(
            outputs=[OutputItem("outputs/facts.json", canonicalize(facts), "application/json")],
            usage={},
            processor_info=f"{NAME} {VERSION}",
        )

    return run


def _answer(status: int, media_type: str, body: bytes) -> Facts:
    hasher = Hasher()
    hasher.update(body)
    whole = {"cid": hasher.digest(), "size_bytes": len(body), "truncated": False}
    return {"status": status, "fault": None, "media_type": media_type, "body": whole}


def _fault(kind: str) -> Facts:
    return {"status": None, "fault": kind, "media_type": None, "body": None}


def ask(spot: Spot, method: str, timeout_s: float) -> Facts:
    """What the server answers within `timeout_s` of being reached, or why there is no answer.

    A fault is `refused`, `timeout`, `tls`, `unreachable` or `protocol`. A redirect is an answer;
    nobody goes where it points.
    """
    wire = connection(spot, timeout_s=timeout_s)
    late = threading.Event()
    clock: threading.Timer | None = None
    try:
        wire.connect()
        clock = threading.Timer(timeout_s, _cut, (wire.sock, late))
        clock.daemon = True
        clock.start()
        answer = _ask(wire, spot, method)
        return _fault("timeout") if late.is_set() else answer
    except TheoryError:
        # The way out refused: that is no fact about the server.
        raise
    except TimeoutError:
        return _fault("timeout")
    except ssl.SSLError:
        return _fault("timeout" if late.is_set() else "tls")
    except ConnectionRefusedError:
        return _fault("refused")
    except (http.client.HTTPException, ConnectionError, ValueError):
        return _fault("timeout" if late.is_set() else "protocol")
    except OSError:
        return _fault("timeout" if late.is_set() else "unreachable")
    finally:
        if clock is not None:
            clock.cancel()
        wire.close()


def _cut(end: socket.socket, late: threading.Event) -> None:
    """End a connection for good: one that sends a byte now and then outlives every wait for one."""
    late.set()
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _ask(wire: http.client.HTTPConnection, spot: Spot, method: str) -> Facts:
    headers = {"Host": spot.authority, "User-Agent": f"theory-{NAME}/{VERSION}", "Accept": "*/*"}
    wire.request(method, spot.target, headers={**headers, "Accept-Encoding": "identity"})
    answer = wire.getresponse()
    hasher, size, truncated = Hasher(), 0, False
    while piece := answer.read(_PIECE_BYTES):
        kept = piece[: MAX_BODY_BYTES - size]
        hasher.update(kept)
        size += len(kept)
        if len(kept) < len(piece):
            truncated = True
            break
    if method == "GET" and answer.length:
        truncated = True
    media_type = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    known = len(media_type) <= MAX_TYPE_CHARS and _TYPE.fullmatch(media_type) is not None
    return {
        "status": answer.status,
        "fault": None,
        "media_type": media_type if known else None,
        "body": {"cid": hasher.digest(), "size_bytes": size, "truncated": truncated},
    }
