"""Percentiles, the machine's state, tables on stdout and results as files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.house import STORES, Store


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Options that these scripts share."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", choices=STORES[:2], action="append", default=[])
    parser.add_argument("--database-url", default="", help="also PostgreSQL, on this server")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    return parser


def stores(given: argparse.Namespace) -> list[Store]:
    """What the command line names, or everything that needs no server."""
    named = [Store(kind) for kind in given.store]
    if given.database_url:
        named.append(Store("postgresql", given.database_url))
    return named or [Store(kind) for kind in STORES[:2]]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def machine() -> dict[str, Any]:
    """Where and beside what a measurement was taken."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def report(name: str, rows: Sequence[Mapping[str, Any]], folder: Path | None) -> None:
    """Print `rows` as a table, and write them to `folder`/`name`.json if there is one."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_shown(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        shown = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(shown) + "\n")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        body = {"machine": machine(), "rows": list(rows)}
        (folder / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else str(value)
