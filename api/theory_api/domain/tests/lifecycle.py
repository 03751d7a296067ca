"""Every command in every state of a plan: the table that a test walks and the docs show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from theory_api.domain import commands as cmd
from theory_api.domain.tests.book import BROKE, PLAN, Book, creation, policy, proposal
from theory_api.domain.values import ControlOp

Asking = Callable[[Book], cmd.Command]


def absent() -> Book:
    """Nothing has been created under this name."""
    return Book()


def active() -> Book:
    """Two transitions wait, `b` for `a`."""
    return Book(proposal("a"), proposal("b", "a"))


def running() -> Book:
    """An attempt of `a` runs."""
    book = active()
    book.admit("a")
    return book


def held() -> Book:
    """Somebody has the attempt of `a` stand still."""
    book = running()
    book.do(_control("pause")(book))
    return book


def stopping() -> Book:
    """Somebody cancelled the attempt of `a`, which has not stopped yet."""
    book = running()
    book.do(_control("cancel")(book))
    return book


def orphaned() -> Book:
    """Nobody can confirm that the attempt of `a` was stopped."""
    book = running()
    book.do(_orphan(book))
    return book


def retrying() -> Book:
    """The first attempt of `a` has failed, its second waits."""
    book = active()
    book.finish(book.admit("a"), "failed")
    return book


def paused() -> Book:
    """Somebody paused the plan before anything ran."""
    book = active()
    book.do(cmd.PausePlan(plan=PLAN, by="me", reason="lunch"))
    return book


def paused_running() -> Book:
    """Somebody paused the plan while `a` runs."""
    book = running()
    book.do(cmd.PausePlan(plan=PLAN, by="me", reason="lunch"))
    return book


def breached() -> Book:
    """What ran first passed its hold, and the policy paused the plan; `a` waits."""
    book = Book(proposal("z"), proposal("a"), proposal("b", "a"), policy=policy(on_breach="pause"))
    book.finish(book.admit("z"), used={"usd_micro": 11})
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="go on"))
    return book


def failing() -> Book:
    """Another transition was refused while `a` runs: the plan fails once `a` has ended."""
    book = Book(proposal("a"), proposal("b", "a"), proposal("z"))
    book.admit("a")
    book.do(cmd.Refuse(plan=PLAN, transition="z", attempt=1, error=BROKE))
    return book


def cancelling() -> Book:
    """Somebody cancelled the plan while `a` runs."""
    book = running()
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


def cancelled() -> Book:
    """Cancelled before anything ran."""
    book = active()
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


def ended() -> Book:
    """Every transition has succeeded, the plan is not concluded."""
    book = Book(proposal("a"))
    book.finish(book.admit("a"))
    return book


def completed() -> Book:
    """The goal holds."""
    book = ended()
    book.conclude()
    return book


def failed() -> Book:
    """The only transition has failed."""
    book = Book(proposal("a"), policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    book.conclude()
    return book


SETTINGS: Mapping[str, Callable[[], Book]] = {
    setting.__name__: setting
    for setting in (
        *(absent, active, running, held, stopping, orphaned, retrying, paused, paused_running),
        *(breached, failing, cancelling, cancelled, ended, completed, failed),
    )
}
"""The states in which commands are tried: each status of a plan, and each way to be in it."""


def _admit(book: Book) -> cmd.Command:
    return (book if "a" in book.state.transitions else active()).admission("a")


def _complete(book: Book) -> cmd.Command:
    return book.completion(active().admission("a").execution_id)


def _orphan(_: Book) -> cmd.Command:
    ident = active().admission("a").execution_id
    return cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE)


def _refuse(book: Book) -> cmd.Command:
    entry = book.state.transitions.get("a")
    attempt = 1 if entry is None else entry.attempt
    return cmd.Refuse(plan=PLAN, transition="a", attempt=attempt, error=BROKE)


def _control(op: ControlOp) -> Asking:
    ident = active().admission("a").execution_id
    return lambda book: book.control(ident, op)


COMMANDS: Mapping[str, Asking] = {
    "create": lambda _: creation(proposal("a"), document="b3:" + "1" * 64),
    "propose": lambda _: cmd.ProposeTransition(plan=PLAN, by="me", proposal=proposal("c")),
    "admit": _admit,
    "refuse": _refuse,
    "complete": _complete,
    "orphan": _orphan,
    "conclude": lambda _: cmd.Conclude(plan=PLAN, verdicts=()),
    "enquire": lambda _: cmd.Enquire(plan=PLAN),
    "cancel": lambda _: cmd.CancelPlan(plan=PLAN, by="me", reason="stop"),
    "pause": lambda _: cmd.PausePlan(plan=PLAN, by="me", reason="wait"),
    "resume": lambda _: cmd.ResumePlan(plan=PLAN, by="me", reason="go on"),
    "topup": lambda _: cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 1}),
    "cancel run": _control("cancel"),
    "pause run": _control("pause"),
    "resume run": _control("resume"),
    "lower run": _control("set_budget"),
}
"""Every command, about the transition `a` and its first attempt where it is about one."""

_ADMITTED = "transition.admitted lease.acquired budget.reserved execution.started"
_SETTLED = "execution.succeeded budget.settled lease.released transition.succeeded"
_LATE = "execution.duplicate budget.settled lease.released transition.retried"
_REFUSED = "transition.refused transition.skipped"
_STOPPED = "plan.cancel_requested transition.cancelled transition.cancelled plan.cancelled"
_REQUESTED = "plan.cancel_requested transition.cancelled"
_STEERED = dict.fromkeys(("cancel run", "pause run", "lower run"), "execution.controlled")
_UNSTEERED = dict.fromkeys(("cancel run", "pause run", "resume run", "lower run"), "")
_OVER = _UNSTEERED | {
    "create": "ERR_CONFLICT",
    "propose": "ERR_CONFLICT",
    "admit": "",
    "refuse": "",
    "complete": "",
    "orphan": "",
    "conclude": "",
    "enquire": "",
    "cancel": "ERR_CONFLICT",
    "pause": "ERR_CONFLICT",
    "resume": "ERR_CONFLICT",
    "topup": "ERR_CONFLICT",
}
_OPEN = _OVER | {
    "propose": "transition.proposed",
    "pause": "plan.paused",
    "resume": "",
    "topup": "budget.topped_up",
}
_BUSY = (
    _OPEN | _STEERED | {"complete": _SETTLED, "orphan": "execution.orphaned", "cancel": _REQUESTED}
)

TABLE: Mapping[str, Mapping[str, str]] = {
    "absent": dict.fromkeys(COMMANDS, "ERR_NOT_FOUND")
    | {"create": "plan.created transition.proposed"},
    "active": _OPEN
    | {"admit": _ADMITTED, "refuse": _REFUSED, "complete": "ERR_CONFLICT", "cancel": _STOPPED},
    "running": _BUSY,
    "held": _BUSY | {"pause run": "", "resume run": "execution.controlled"},
    "stopping": _BUSY | _UNSTEERED,
    "orphaned": _BUSY | _UNSTEERED | {"complete": _LATE, "orphan": ""},
    "retrying": _OPEN | {"admit": _ADMITTED, "refuse": _REFUSED, "cancel": _STOPPED},
    "paused": _OPEN
    | {"refuse": _REFUSED, "complete": "ERR_CONFLICT", "cancel": _STOPPED}
    | {"pause": "", "resume": "plan.resumed"},
    "paused_running": _BUSY | {"pause": "", "resume": "plan.resumed"},
    "breached": _OPEN | {"refuse": _REFUSED, "complete": "ERR_CONFLICT", "cancel": _STOPPED},
    "failing": _BUSY | {"propose": "ERR_CONFLICT", "cancel": "plan.cancel_requested"},
    "cancelling": _BUSY
    | _UNSTEERED
    | {"propose": "ERR_CONFLICT", "complete": f"{_SETTLED} plan.cancelled"}
    | {"cancel": "", "pause": ""},
    "cancelled": _OVER | {"complete": "ERR_CONFLICT", "cancel": ""},
    "ended": _OPEN
    | {"propose": "ERR_CONFLICT", "conclude": "plan.completed"}
    | {"cancel": "plan.cancel_requested plan.cancelled"},
    "completed": _OVER,
    "failed": _OVER,
}
"""What a command leads to in a setting: the kinds of its events, or the code that refuses it.

Nothing: the command is heard, and nothing changes.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One command in one setting."""

    setting: str
    command: str

    @property
    def stated(self) -> str:
        """What the table says."""
        return TABLE[self.setting][self.command]


CELLS = tuple(Cell(setting, command) for setting in SETTINGS for command in COMMANDS)
"""The whole product."""
