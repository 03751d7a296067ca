"""The console entry: an interruption ends in a word, also while everything is still imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and answer its exit code."""
    try:
        from theory_api.cli.main import main as run  # noqa: PLC0415 - what takes its time

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
