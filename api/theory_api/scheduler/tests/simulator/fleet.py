"""Many seeds over several worker processes, which differ in how Python hashes texts."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import structlog

from theory_api.scheduler.tests.simulator.workload import registry
from theory_api.scheduler.tests.simulator.world import Outcome, live
from theory_core import canonicalize, loads_strict

LEAST_TRANSITIONS = 200
LEAST_FAULTS = 20
_CRITICAL = 50


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the log: it would tell of thousands of faults, each on purpose."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def judged(seed: int) -> Outcome:
    """Run a seed; one that did too little has failed as well."""
    outcome = live(seed, registry())
    faults = sum(outcome.faults.values())
    enough = outcome.transitions >= LEAST_TRANSITIONS and faults >= LEAST_FAULTS
    if not outcome.cause and not enough:
        outcome.cause = f"too thin: {outcome.transitions} transitions, {faults} faults"
    return outcome


def work() -> None:
    """Serve one worker: seeds on stdin, outcomes on stdout, a line each."""
    gc.freeze()
    gc.disable()  # between two seeds is time enough, and no seed needs much
    with quiet():
        for line in sys.stdin:
            outcome = asdict(judged(int(line)))
            for name in ("simulated_s", "real_s"):
                outcome[name] = int(outcome[name] * 1000)
            sys.stdout.buffer.write(canonicalize(outcome) + b"\n")
            sys.stdout.buffer.flush()
            gc.collect()


SHIFT = 10
"""Seeds of one worker process."""


class Fleet:
    """Workers that take seeds until there are none, or until told to stop."""

    def __init__(self, seeds: Iterable[int], *, jobs: int, twice: int = 0) -> None:
        """The first `twice` seeds are run by two workers, which hash differently."""
        rest = iter(seeds)
        both = list(itertools.islice(rest, twice))
        self._lock = threading.Lock()
        self._lanes = [iter(both), iter(both)]
        self._rest = rest
        self._jobs = max(jobs, 2 if both else 1)
        self._done: queue.Queue[Outcome | None] = queue.Queue()
        self._stopped = False

    def outcomes(self) -> Iterator[Outcome]:
        """What became of each seed, as it becomes known."""
        threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(self._jobs)
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            outcome = self._done.get()
            if outcome is None:
                left -= 1
            else:
                yield outcome

    def stop(self) -> None:
        """Let nobody begin another seed."""
        self._stopped = True

    def _next(self, lane: int) -> int | None:
        with self._lock:
            if self._stopped:
                return None
            return next(itertools.chain(self._lanes[lane], self._rest), None)

    def _serve(self, number: int) -> None:
        """One worker process after the other; each hashes texts by this lane's seed.

        A buried world is never freed whole: what its dead coroutines hold would be looked through
        after every seed, and in the end that is all a worker does.
        """
        try:
            while self._shift(number):
                pass
        finally:
            self._done.put(None)

    def _shift(self, number: int) -> bool:
        """A few seeds in one process; whether there may be more."""
        command = [sys.executable, "-m", "theory_api.scheduler.tests.simulator", "--worker"]
        environment = os.environ | {"PYTHONHASHSEED": str(number + 1)}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            for _ in range(SHIFT):
                seed = self._next(number % 2)
                if seed is None:
                    return False
                worker.stdin.write(f"{seed}\n".encode())
                worker.stdin.flush()
                self._done.put(_read(worker.stdout.readline(), seed))
        return True


def _read(line: bytes, seed: int) -> Outcome:
    if not line:
        return Outcome(seed, cause="the worker died; its standard error says why")
    fields = loads_strict(line)
    for name in ("simulated_s", "real_s"):
        fields[name] /= 1000
    return Outcome(**fields)


def differing(outcomes: Iterable[Outcome]) -> dict[int, set[str]]:
    """Seeds whose runs left different traces, and the traces."""
    traces: dict[int, set[str]] = {}
    for outcome in outcomes:
        traces.setdefault(outcome.seed, set()).add(outcome.digest)
    return {seed: found for seed, found in traces.items() if len(found) > 1}
