"""The simulator's command: `python -m theory_api.scheduler.tests.simulator --seeds 0..499`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from theory_api.scheduler.tests.simulator.fleet import Fleet, differing, work
from theory_api.scheduler.tests.simulator.world import Outcome

YEAR_S = 365.25 * 86_400
CAUSE_CHARACTERS = 2000


def seeds_of(text: str) -> range:
    """`7` or `0..499`, both ends included."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=range(20), help="A..B, both included")
    parser.add_argument("--soak", action="store_true", help="go on from A until interrupted")
    parser.add_argument("--minutes", type=float, help="begin no seed after this time")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--twice", type=int, default=0, help="run the first N twice, and compare")
    parser.add_argument("--first", action="store_true", help="stop at the first failure")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run; 0 if every law held in every seed, 1 otherwise, 130 when interrupted."""
    asked = arguments()
    if asked.worker:
        work()
        return 0
    console = Console()
    total = None if asked.soak else len(asked.seeds) + min(asked.twice, len(asked.seeds))
    seeds: Iterable[int] = itertools.count(asked.seeds.start) if asked.soak else asked.seeds
    fleet = Fleet(seeds, jobs=asked.jobs, twice=asked.twice)
    outcomes: list[Outcome] = []
    since, code = time.monotonic(), 0
    bar = Progress(
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    try:
        with bar:
            task = bar.add_task("", total=total)
            for outcome in fleet.outcomes():
                outcomes.append(outcome)
                bar.advance(task)
                if outcome.cause:
                    show(console, outcome)
                    if asked.first:
                        fleet.stop()
                if asked.minutes and time.monotonic() - since > asked.minutes * 60:
                    fleet.stop()
    except KeyboardInterrupt:
        code = 130
    return max(code, summary(console, outcomes, time.monotonic() - since))


def show(console: Console, outcome: Outcome) -> None:
    """One line a failure, and how to see it again."""
    cause = outcome.cause.strip()[-CAUSE_CHARACTERS:]
    console.print(f"{outcome.seed}: {cause}", style="red", markup=False, soft_wrap=True)


def summary(console: Console, outcomes: list[Outcome], took_s: float) -> int:
    """The figures of a run; 1 if anything failed."""
    faults: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
    table = Table("fault", "times", title="Faults injected")
    for kind, times in sorted(faults.items()):
        table.add_row(kind, f"{times:,}")
    console.print(table)
    simulated = sum(outcome.simulated_s for outcome in outcomes)
    busy = sum(outcome.real_s for outcome in outcomes) or 1.0
    lines = {
        "runs": f"{len(outcomes):,} of {len({outcome.seed for outcome in outcomes}):,} seeds",
        "faults": f"{faults.total():,} of {len(faults)} kinds",
        "processes": f"{sum(outcome.processes for outcome in outcomes):,}",
        "transitions": f"{sum(outcome.transitions for outcome in outcomes):,}",
        "executions": f"{sum(outcome.executions for outcome in outcomes):,}",
        "commits judged": f"{sum(outcome.commits for outcome in outcomes):,}",
        "simulated": f"{simulated / YEAR_S:.2f} years, {simulated / busy:,.0f} times real time",
        "took": f"{took_s:.0f} s",
    }
    for name, text in lines.items():
        console.print(f"{name:>15}  {text}", highlight=False)
    failed = [outcome.seed for outcome in outcomes if outcome.cause]
    unsteady = differing(outcomes)
    for seed, traces in unsteady.items():
        console.print(f"{seed}: its runs left different traces: {', '.join(sorted(traces))}")
    if failed:
        console.print(
            f"FAILED: {len(failed)} runs: {', '.join(map(str, sorted(set(failed))[:50]))}"
        )
    return 1 if failed or unsteady or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
