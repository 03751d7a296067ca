"""Options that every command takes, before or after its name, and the settings they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import rich_click as click

from theory_api.settings import VARIABLES, Settings, read

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


_MEANT: Final = {"home": "The ", "database_url": "Where truth lies: "}
"""What makes a setting's meaning a sentence of its own."""


@dataclass(slots=True)
class Told:
    """What the command line said about the process itself; the last word on it counts."""

    values: dict[str, object] = field(default_factory=dict)
    json: bool = False

    def settings(self, **given: object) -> Settings:
        """The settings of this invocation; `given` are options of its command.

        Law: a person who waits reads sentences, a program reads log lines: without `--json` only
        errors are logged unless THEORY_LOG says otherwise.
        """
        return read(None, interactive=not self.json, **(self.values | given))


def shared(command: Decorated) -> Decorated:
    """Give a command or group the options that stand before or after its name."""
    for option in (
        click.option(
            "--json",
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_remember,
            help="Print the result as one line of canonical JSON; logs are NDJSON on stderr.",
        ),
        setting("database_url", metavar="URL"),
        setting("home", metavar="DIR"),
    ):
        command = option(command)
    return command


def setting(name: str, *, metavar: str) -> Callable[[Decorated], Decorated]:
    """An option that is a setting; its help names the environment variable."""
    variable, meaning = VARIABLES[name]
    return click.option(
        "--" + name.replace("_", "-"),
        metavar=metavar,
        expose_value=False,
        callback=_remember,
        help=f"{_MEANT.get(name, '')}{meaning} [env: {variable}]",
    )


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    told = context.ensure_object(Told)
    if value is None:
        return
    if parameter.name == "json":
        told.json = bool(value)
    elif parameter.name is not None:
        told.values[parameter.name] = value


told = click.make_pass_decorator(Told, ensure=True)
"""Hands the invocation's `Told` to a command as its first argument."""
