"""Commands as bytes, for the way from one scheduler to another."""

from __future__ import annotations

from typing import Final

import msgspec

from theory_api.domain import commands as cmd
from theory_core import TheoryError

VERSION: Final = "theory.command.v1"

COMMANDS: Final[dict[str, type[cmd.Command]]] = {
    name: kind
    for name, kind in vars(cmd).items()
    if isinstance(kind, type) and issubclass(kind, cmd.Command) and kind is not cmd.Command
}
"""Every command by the name that it travels under."""


class _Parcel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: str
    command: str
    body: msgspec.Raw


def encode(command: cmd.Command) -> bytes:
    """JSON of a command. Law: `decode(encode(c)) == c`.

    Raises `TheoryError` `ERR_INPUTS` for text that is no Unicode.
    """
    name = type(command).__name__
    try:
        body = msgspec.json.encode(command, order="deterministic")
    except UnicodeEncodeError as error:
        message = "invalid inputs payload: a command holds text that is no Unicode"
        raise TheoryError("ERR_INPUTS", message, {"reason": "unicode"}) from error
    parcel = _Parcel(VERSION, name, msgspec.Raw(body))
    return msgspec.json.encode(parcel)


def decode(data: bytes) -> cmd.Command:
    """The command of such bytes.

    Law: what this version would not have written itself is refused, never read in part: a replica
    of another version may mean something by it. Raises `TheoryError` `ERR_INPUTS`.
    """
    try:
        parcel = msgspec.json.decode(data, type=_Parcel)
        command = msgspec.json.decode(parcel.body, type=COMMANDS[parcel.command])
    except (msgspec.DecodeError, KeyError) as error:
        raise _foreign() from error
    if encode(command) != data:
        raise _foreign()
    return command


def _foreign() -> TheoryError:
    message = "invalid inputs payload: a command of another version cannot be read"
    return TheoryError("ERR_INPUTS", message, {"reason": "command"})
