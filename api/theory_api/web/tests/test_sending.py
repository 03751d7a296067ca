"""How frames leave: together in one turn of the loop, and each within its time."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.web.connection import Message
from theory_api.web.gathering import MOST_BYTES, Gathered
from theory_api.web.timely import Timely


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said.append(bytes(data))

    def close(self) -> None:
        self.said.append(b"closed")


async def gathered() -> tuple[Transport, Gathered]:
    transport = Transport()
    return transport, Gathered(transport, asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_leaves_as_one() -> None:
    transport, writer = await gathered()
    for piece in (b"a", bytearray(b"b"), memoryview(b"c")):
        writer.write(piece)
    assert transport.said == []
    await asyncio.sleep(0)
    assert transport.said == [b"abc"]
    writer.write(b"d")
    await asyncio.sleep(0)
    assert transport.said == [b"abc", b"d"]


async def test_no_more_is_gathered_than_a_transport_may_hold_unasked() -> None:
    transport, writer = await gathered()
    writer.write(b"a")
    writer.write(b"b" * MOST_BYTES)
    assert transport.said == [b"a" + b"b" * MOST_BYTES]
    writer.write(b"c")
    await asyncio.sleep(0)
    assert transport.said[1:] == [b"c"]


async def test_everything_leaves_before_a_connection_is_closed() -> None:
    transport, writer = await gathered()
    writer.write(b"a")
    writer.close()
    await asyncio.sleep(0)
    assert transport.said == [b"a", b"closed"]


async def test_a_message_that_takes_too_long_ends_them_all() -> None:
    sent: list[Message] = []

    async def stuck(message: Message) -> None:
        sent.append(message)
        await asyncio.sleep(60 if len(sent) > 1 else 0)

    async def twice() -> None:
        async with Timely(stuck, 0.05) as send:
            await send({})
            await send({})

    with pytest.raises(TimeoutError):
        await twice()
    assert len(sent) == 2


async def test_neither_many_messages_nor_the_time_between_them_are_too_long() -> None:
    async def quick(_message: Message) -> None:
        await asyncio.sleep(0.01)

    async with Timely(quick, 0.1) as send:
        for _ in range(15):
            await send({})
        await asyncio.sleep(0.25)
        await send({})


async def test_what_else_goes_wrong_is_not_taken_for_a_slow_reader() -> None:
    async def broken(_message: Message) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with Timely(broken, 0.05) as send:
            await send({})
    await asyncio.sleep(0.1)
