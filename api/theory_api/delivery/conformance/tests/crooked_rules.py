"""How a server judges what clients say, and which case of the examination tries which refusal."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Opcode

from theory_core import TheoryError, validate_frame


def judged(message: str | bytes, *, first: bool) -> tuple[str, int | None, dict[str, Any]]:
    """The case that a message belongs to, the code that it deserves, and the frame."""
    if not isinstance(message, str):
        return "open.binary", 1003, {}
    if message == "fragments":
        return "", 1002, {}
    try:
        frame = validate_frame(message, "client")
    except TheoryError as error:
        return case_of(message, error), int(str(error.detail["close"])), {}
    if first != (frame["kind"] == "RunOpen"):
        return "open.kind" if first else "open.twice", 1002, frame
    return "", None, frame


def case_of(message: str, error: TheoryError) -> str:
    """The case that tries what was refused."""
    try:
        frame = json.loads(message)
    except ValueError:
        return "open.syntax"
    content = frame.get("content", {}) if isinstance(frame, dict) else {}
    told = (
        (not isinstance(frame, dict), "open.syntax"),
        (error.code == "ERR_TOO_LARGE", "open.large"),
        (error.detail["close"] == 1002, "open.kind"),
        (error.detail.get("reason") == "ERR_JSON_DUPLICATE", "open.duplicate"),
        (error.detail.get("problem") == "unknown", "open.unknown"),
        (set(frame) != {"kind", "content"}, "open.unknown"),
        (content.get("op") == "dance", "control.op"),
        (content.get("role") == "observer", "open.starter"),
        (content.get("role") == "king", "open.role"),
        (content.get("payload", {}).get("mode") == "dry", "open.mode"),
    )
    return next((case for met, case in told if met), "open.payload")


def never_pong(connection: ServerConnection) -> None:
    protocol: Any = connection.protocol
    send = protocol.send_frame

    def without_pongs(frame: Any) -> None:  # noqa: ANN401
        if frame.opcode is not Opcode.PONG:
            send(frame)

    protocol.send_frame = without_pongs
