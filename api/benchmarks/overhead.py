"""What one transition costs on an idle machine: a proposal, its commit, its run, its settlement.

python -m benchmarks.overhead --store sqlite --database-url postgresql://user@127.0.0.1/postgres
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.measure import arguments, report, stores
from benchmarks.transitions import run


def main() -> None:
    """Measure as the command line says."""
    parser = arguments(__doc__)
    parser.add_argument("--transitions", type=int, default=300)
    given = parser.parse_args()
    rows = []
    for store in stores(given):
        for _ in range(given.runs):
            with tempfile.TemporaryDirectory() as folder:
                work = run(store, Path(folder), plans=1, per_plan=given.transitions)
                rows.append(asyncio.run(work))
    report("overhead", rows, given.out)


if __name__ == "__main__":
    main()
