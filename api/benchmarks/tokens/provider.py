"""A processor that streams tokens at a steady pace, each with the moment at which it was made."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from theory_runtime import Config, OutputItem, ProcessorResult

TICK_S = 0.001


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """A runner that begins once the file `params["go"]` is there, whatever its watchers do."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        while not Path(params["go"]).exists():
            time.sleep(TICK_S)
        began, count, most = time.perf_counter(), 0, params["count"]
        while count < most:
            due = min(most, int((time.perf_counter() - began) * params["rate"]) + 1)
            for _ in range(count, due):
                config.progress("Token", {"text": f"{time.time():.6f} a token"})
            count = due
            time.sleep(TICK_S)
        body = str(count).encode()
        return ProcessorResult([OutputItem("outputs/count", body, "text/plain")], {}, "tokens 1")

    return run
