"""The command `theory`: its groups, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import rich_click as click

from theory_api.cli import (
    artifact,
    conformance,
    demo,
    doctor,
    image,
    ledger,
    local,
    modal,
    plan,
    receipt,
    registry,
    run,
    scaffold,
    secrets,
    serve,
    world,
)
from theory_api.cli.failures import FAILED, INTERRUPTED, USAGE, report
from theory_api.cli.loop import InterruptedByUser
from theory_api.cli.options import Told, shared
from theory_api.settings import VARIABLES
from theory_core import TheoryError

click.rich_click.OPTIONS_TABLE_COLUMN_TYPES = [
    "required",
    "opt_short",
    "opt_long",
    "metavar",
    "help",
]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None},
    epilog="Settings by environment: "
    + "; ".join(f"{variable} ({meaning})" for variable, meaning in VARIABLES.values()),
)
@shared
@click.version_option(package_name="theory-api", message="%(version)s")
def theory() -> None:
    """Run containerised work under plans: reserved first, recorded always, provable afterwards.

    Exit codes: 0 success, 1 an error with its code, 2 usage, 130 interrupted.
    """


theory.add_command(demo.demo)
theory.add_command(run.run)
theory.add_command(plan.plan)
theory.add_command(ledger.ledger)
theory.add_command(artifact.artifact)
theory.add_command(world.world)
theory.add_command(receipt.receipt)
theory.add_command(image.image)
theory.add_command(registry.registry)
theory.add_command(local.local)
theory.add_command(modal.modal)
theory.add_command(secrets.secrets)
theory.add_command(serve.serve)
theory.add_command(conformance.conformance)
theory.add_command(scaffold.scaffold)
theory.add_command(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and answer its exit code; `arguments` default to the process's own."""
    told = Told()
    try:
        code = theory.main(arguments, prog_name="theory", standalone_mode=False, obj=told)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TheoryError as error:
        report(error, as_json=told.json)
        return FAILED
    except (InterruptedByUser, click.Abort, KeyboardInterrupt) as error:
        click.echo(str(error) or "interrupted", err=True)
        return INTERRUPTED
    except SystemExit as error:
        # A group without a command has shown its help.
        return error.code if isinstance(error.code, int) else USAGE
    except BrokenPipeError:
        # Whoever read our output has gone; what was left to flush has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the outermost boundary: logged, then coded
        _log(error)
        message = f"internal error: {type(error).__name__}; the log on stderr has the trace"
        report(TheoryError("ERR_INTERNAL", message, {}), as_json=told.json)
        return FAILED
    return code if isinstance(code, int) else 0


def _log(error: Exception) -> None:
    """The trace of a defect of ours, redacted, as one line on stderr."""
    import structlog  # noqa: PLC0415 - commands that only print help do without it

    from theory_api.observability.logs import configure  # noqa: PLC0415 - as above

    if not structlog.is_configured():
        configure(level="error", version="")
    structlog.get_logger(__name__).error("error.ERR_INTERNAL", exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
