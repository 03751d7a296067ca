"""The way between a run and its gateway: HTTP, over a unix socket where there is one."""

import http.client
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from theory_core import TheoryError, loads_strict
from theory_runtime.fault import fault, reason_of
from theory_runtime.outputs import Reader

TIMEOUT_S: Final = 60.0
DELAYS_S: Final = (0.1, 0.4, 1.6)
"""Pauses before the second, third and fourth try of one object."""

_PIECE_BYTES: Final = 1 << 18
_ANSWER_BYTES: Final = 64 * 1024
_OK: Final = frozenset({200, 201})
_UNAVAILABLE: Final = 503
_PLAIN: Final = "/-._~"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class HttpDoor:
    """The gateway of one execution: PUT of outputs, GET of declared inputs. Never a redirect.

    Putting is put-if-absent, so a try that may have arrived is repeated, three times at most.
    """

    def __init__(self, upload: Mapping[str, Any], *, delays_s: Sequence[float] = DELAYS_S) -> None:
        self._url = str(upload["url"])
        self._headers = dict(upload["headers"])
        self._socket: str | None = upload.get("socket")
        self._delays_s = delays_s
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def put(self, relpath: str, body: Reader, mime: str) -> str:
        """Deliver one object; see `theory_runtime.outputs.Door`."""
        url = self._url + quote(relpath, safe=_PLAIN)
        headers = {**self._headers, "Content-Type": mime, "Content-Length": str(body.size_bytes)}
        for delay_s in (*self._delays_s, None):
            try:
                return self._put_once(url, headers, body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if delay_s is None:
                    raise fault("ERR_UPLOAD", "connection") from error
            except TheoryError as error:
                if delay_s is None or not error.detail.get("again"):
                    raise
            time.sleep(delay_s)
            body.rewind()
        raise fault("ERR_UPLOAD", "connection")

    def _put_once(self, url: str, headers: Mapping[str, str], body: Reader) -> str:
        connection, target = self._connect(url)
        connection.putrequest("PUT", target)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(message_body=body)
        answer = connection.getresponse()
        data = answer.read(_ANSWER_BYTES)
        if answer.status not in _OK:
            self.close()
            raise _refusal(answer.status, data, default="ERR_UPLOAD")
        try:
            return str(loads_strict(data)["cid"])
        except (TheoryError, KeyError, TypeError) as error:
            raise fault("ERR_UPLOAD", "answer") from error

    def fetch(self, url: str, take: Callable[[bytes], object]) -> None:
        """Hand the bytes of a declared input to `take`; see `theory_runtime.inputs.Source`.

        Law: the upload's headers may be credentials; nobody but its own place gets them.
        """
        place = urljoin(self._url, url)
        headers = self._headers if _origin(place) == _origin(self._url) else {}
        try:
            connection, target = self._connect(place)
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            if answer.status not in _OK:
                self.close()
                raise _refusal(answer.status, b"", default="ERR_STORAGE")
            while piece := answer.read(_PIECE_BYTES):
                take(piece)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise fault("ERR_STORAGE", "input") from error

    def close(self) -> None:
        """Drop all connections; the next call opens them again."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        """A connection for the URL, and what to ask it for."""
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = self._open(*key)
        return connection, parts.path + (f"?{parts.query}" if parts.query else "")

    def _open(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if self._socket is not None:
            return _UnixConnection(self._socket, TIMEOUT_S)
        if scheme == "https":
            return http.client.HTTPSConnection(netloc, timeout=TIMEOUT_S)
        return http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class FolderDoor:
    """A folder of this machine: where a run without a server reads and writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, relpath: str, body: Reader, mime: str) -> str:  # noqa: ARG002 - in the index
        """Write one file; see `theory_runtime.outputs.Door`."""
        target = self._folder / relpath
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                while piece := body.read(_PIECE_BYTES):
                    file.write(piece)
        except FileExistsError as error:
            raise fault("ERR_OUTPUT_DUPLICATE") from error
        except OSError as error:
            raise fault("ERR_STORAGE", "output") from error
        return body.digest()

    def fetch(self, url: str, take: Callable[[bytes], object]) -> None:
        """Read a `file:` URL; see `theory_runtime.inputs.Source`."""
        with Path(os.fsdecode(url.removeprefix("file://"))).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                take(piece)

    def close(self) -> None:
        """Nothing is open."""


def open_door(
    place: Mapping[str, Any], *, delays_s: Sequence[float] = DELAYS_S
) -> HttpDoor | FolderDoor:
    """The door of an upload: HTTP, or a folder given as a `file:` URL."""
    url = str(place["url"])
    if url.startswith("file://"):
        return FolderDoor(Path(url.removeprefix("file://")))
    return HttpDoor(place, delays_s=delays_s)


def _refusal(status: int, body: bytes, *, default: str) -> TheoryError:
    """What the other side said, if it said it as a problem with one of these codes."""
    again = status == _UNAVAILABLE
    try:
        problem = loads_strict(body)
        code = problem["code"]
    except (TheoryError, KeyError, TypeError):
        return fault(default, str(status), again=again)
    known = {"ERR_OUTPUT_PREFIX", "ERR_OUTPUT_DUPLICATE", "ERR_TOO_LARGE", "ERR_STORAGE"}
    stated = TheoryError(str(code), "", problem if isinstance(problem, dict) else {})
    return fault(code if code in known else default, reason_of(stated), again=again)
