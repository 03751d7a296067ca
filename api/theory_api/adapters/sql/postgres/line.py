"""One connection, used by one task at a time, under a deadline that is not the driver's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import asyncpg

from theory_api.adapters.sql.postgres.faults import (
    DoubtfulError,
    Unanswered,
    certain,
    unavailable,
)
from theory_core import TheoryError

T = TypeVar("T")

CONNECT_S: Final = 5.0
DEADLINE_S: Final = 12.0
"""Longer than `statement_timeout`, so that a server that is alive answers first."""
_FAREWELL_S: Final = 1.0

SESSION: Final[Mapping[str, str]] = {
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "5000",
    "tcp_user_timeout": "10000",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "jit": "off",
    # Batches join a few rows to large tables by their keys; a table that has just been filled
    # has no statistics yet, and a plan made then would scan it for as long as the session lives.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""What makes the server give up on us no later than we give up on it."""

_DURABLE: Final = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""

_END: Final = "SELECT"

Work = Callable[[asyncpg.Connection], Awaitable[T]]


class Line:
    """Opens a connection when one is needed, and throws it away when it is in doubt.

    Law: what was begun ends here, also when the caller is cancelled; a connection whose last task
    did not end by an answer of the server is never used again.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        deadline_s: float = DEADLINE_S,
        opened: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> None:
        """`name` is how the server lists the connection; `opened` runs on every new one."""
        self._url = url
        self._name = name
        self._deadline_s = deadline_s
        self._opened = opened
        self._connection: asyncpg.Connection | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.backend = 0
        """Process id, in the server, of the newest connection; 0 before the first."""

    @property
    def queue(self) -> int:
        """Callers that are served or wait."""
        return len(self._tasks)

    async def run(self, work: Work[T]) -> T:
        """What `work` answers on the connection.

        Raises `TheoryError` `ERR_UNAVAILABLE` when there is no connection to be had (nothing was
        done), `DoubtfulError` when nobody knows how it ended, and the server's own errors.
        """
        if self._closed:
            raise TheoryError("ERR_UNAVAILABLE", "the store is closed")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._answer(work, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await answer
        except asyncio.CancelledError:
            if not task.done():
                self._left.add(task)
                task.add_done_callback(self._left.discard)
            raise

    async def quiet(self) -> None:
        """Wait for work whose caller has left; it goes on here until it ends."""
        if self._left:
            await asyncio.wait(set(self._left))

    async def close(self) -> None:
        """Close for good, after what was begun.

        Law: a farewell that nobody answers is no fault; the connection is cut, nothing is open in
        it.
        """
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(TimeoutError):
                await _within(_FAREWELL_S, connection.close(), connection)

    def discard(self) -> None:
        """Cut the connection; the server undoes what was open in it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _answer(self, work: Work[T], answer: asyncio.Future[T]) -> None:
        """Law: a caller that left does not make an answer an unhandled error."""
        try:
            found = await self._alone(work)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
            if not isinstance(error, Exception):
                raise
        else:
            if not answer.done():
                answer.set_result(found)

    async def _alone(self, work: Work[T]) -> T:
        async with self._lock:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._open()
            try:
                return await _in_time(self._deadline_s, work(connection), connection)
            except Unanswered as error:
                if certain(error) and not connection.is_closed():
                    raise
                self.discard()
                raise DoubtfulError from error
            except TheoryError:
                raise
            except BaseException:
                self.discard()
                raise

    async def _open(self) -> asyncpg.Connection:
        settings = {"application_name": self._name, **SESSION}
        try:
            async with asyncio.timeout(CONNECT_S + _FAREWELL_S):
                connection = await asyncpg.connect(
                    self._url, timeout=CONNECT_S, server_settings=settings
                )
        except Unanswered as error:
            raise unavailable(error) from error
        try:
            await _within(CONNECT_S, self._prepare(connection), connection)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, Unanswered):
                raise unavailable(error) from error
            raise
        self.backend = connection.get_server_pid()
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Law: nothing is open in a connection that waits for its first work.

        The driver's `prepare` ends in a flush, not in a sync: it leaves a transaction open whose
        `statement_timeout` runs. A simple statement ends it.
        """
        await connection.execute(_DURABLE)
        if self._opened is not None:
            await self._opened(connection)
            await connection.execute(_END)


async def _in_time(seconds: float, work: Awaitable[T], connection: asyncpg.Connection) -> T:
    """The answer of `work`, which waits for `connection` alone; cut short past the deadline.

    Raises `TimeoutError` then: whoever waits for a connection hears of its end at once.
    """
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        connection.terminate()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        return await work
    except Unanswered as error:
        if expired:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


async def _within(seconds: float, work: Awaitable[T], connection: asyncpg.Connection) -> T:
    """The answer of `work`; past the deadline the connection is cut and `TimeoutError` raised.

    The driver's own cancellation asks the server first, and would wait for a link that is dead.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _cut(task, connection)
        raise
    if not done:
        await _cut(task, connection)
        raise TimeoutError
    return task.result()


async def _cut(task: asyncio.Future[Any], connection: asyncpg.Connection) -> None:
    connection.terminate()
    task.cancel()
    task.add_done_callback(_heard)
    await asyncio.wait({task}, timeout=_FAREWELL_S)


def _heard(task: asyncio.Future[Any]) -> None:
    """What a cut connection had to say is of no more use."""
    if not task.cancelled():
        task.exception()
