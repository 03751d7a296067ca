"""The command line of a processor: one run on the spot, or a server."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from theory_core import TheoryError


def main(main_file: str, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit code: 0 success, 1 error, 2 usage.

    `main_file` is the caller's `__file__`, `<ns>/<name>/<v>/main.py`; `provider.py` is beside it.
    """
    parser = _parser()
    told = parser.parse_args(arguments)
    file = Path(main_file).absolute()
    if told.worker is not None:
        from theory_runtime import worker  # noqa: PLC0415 - the others' imports cost a run time

        worker.main(file, *told.worker)
    try:
        if told.serve is not None:
            from theory_runtime import service  # noqa: PLC0415 - only a server needs websockets

            return service.main(file, told)
        if told.payload is None or told.out is None:
            parser.error("--payload FILE and --out DIR belong together")
        from theory_runtime import bench  # noqa: PLC0415 - as above

        return bench.main(file, told.payload, told.out, mode=told.mode, secrets=told.secrets)
    except TheoryError as error:
        parser.exit(2, f"{error}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run this processor once, or serve it.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--payload", type=Path, metavar="FILE", help="inputs of one run, as JSON")
    what.add_argument(
        "--serve", type=Path, metavar="DIR", help="serve theory.run.v1 on DIR/run.sock"
    )
    what.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new or empty folder for results")
    parser.add_argument("--mode", choices=("mock", "real"), help="default: the payload's, or mock")
    parser.add_argument(
        "--secrets", type=Path, metavar="DIR", help="a folder with one file per secret, for real"
    )
    parser.add_argument("--image-digest", metavar="SHA256", help="digest of the image this runs in")
    parser.add_argument(
        "--image-id", metavar="SHA256", help="id of the image this runs in, where nobody pinned it"
    )
    parser.add_argument(
        "--listen", type=_address, metavar="HOST:PORT", help="serve on TCP besides the socket"
    )
    parser.add_argument(
        "--only-mode", choices=("mock", "real"), help="refuse runs of the other mode"
    )
    parser.add_argument(
        "--concurrency", type=_count, metavar="N", help="refuse runs beyond this many at once"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder to empty after each run of a server that has one at a time",
    )
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    return parser


def _count(text: str) -> int:
    """A number from 1; raises `ValueError`, which the parser turns into usage."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _address(text: str) -> tuple[str, int]:
    """Host and port; raises `ValueError`, which the parser turns into usage."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
