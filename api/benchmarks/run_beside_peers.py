r"""Our benchmarks and those of others in one run, on one machine and one server, as ratios.

    python -m benchmarks.run_beside_peers --peers FOLDER --python PEERS/bin/python \
        --database-url postgresql://user@127.0.0.1:5432/postgres --out results

FOLDER holds peer scripts that write their results as JSON to the folder named by BENCH_RESULTS and
use the server named by BENCH_PG: `dbos_peer.py` and `jobs_peer.py`. Ours run before and after each,
and the ratio is taken to the mean of both, so that a drift of the machine counts half.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import arguments, report

PEERS: Final = {
    "dbos_peer.py": ("dbos", "per_s", "steps/s"),
    "jobs_peer.py": ("jobs", "jobs_per_s", "pgqueuer, batch 50"),
}
"""Script -> its result file, the figure in it, and how the labels that count begin."""


def ours(url: str, plans: int, per_plan: int) -> dict[str, float]:
    """Transitions per second by store; each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.transitions", "--out", folder]
        command += ["--store", "sqlite", "--database-url", url]
        command += ["--plans", str(plans), "--per-plan", str(per_plan)]
        subprocess.run(command, check=True)  # noqa: S603 - our own module
        found = json.loads((Path(folder) / "transitions.json").read_text(encoding="utf-8"))
    return {row["store"]: row["per_s"] for row in found["rows"]}


def theirs(python: Path, script: Path, url: str) -> dict[str, float]:
    """The peer's figures by label."""
    result, figure, begins = PEERS[script.name]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"BENCH_RESULTS": folder, "BENCH_PG": url, "BENCH_LOCK": ""}
        environment.pop("PYTHONPATH", None)
        command = [str(python), str(script)]
        subprocess.run(command, check=True, env=environment)  # noqa: S603 - named by the caller
        found = json.loads((Path(folder) / f"{result}.json").read_text(encoding="utf-8"))
    rows: dict[str, Any] = found["results"]
    return {
        label: row[figure]
        for label, row in rows.items()
        if label.startswith(begins) and figure in row
    }


def main() -> None:
    """Run as the command line says."""
    parser = arguments(__doc__)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True, help="the peers' interpreter")
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--per-plan", type=int, default=3)
    given = parser.parse_args()
    rows = []
    before = ours(given.database_url, given.plans, given.per_plan)
    for name in PEERS:
        peer = theirs(given.python, given.peers / name, given.database_url)
        after = ours(given.database_url, given.plans, given.per_plan)
        label = max(peer, key=lambda known: peer[known])
        for store in before:
            mean = (before[store] + after[store]) / 2
            rows.append(
                {
                    "store": store,
                    "ours_per_s": mean,
                    "peer": label,
                    "peer_per_s": peer[label],
                    "ratio": mean / peer[label],
                }
            )
        before = after
    report("beside_peers", rows, given.out)


if __name__ == "__main__":
    main()
