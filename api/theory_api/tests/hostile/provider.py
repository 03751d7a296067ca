"""Misbehave in the way that `params["how"]` names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from theory_runtime import Config, OutputItem, ProcessorResult


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner of one execution."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        how = params["how"]
        if how == "crash":
            os._exit(3)
        if how == "raise":
            message = "canary-7f3a must not reach anybody"
            raise RuntimeError(message)
        if how == "hang":
            time.sleep(3600)
        if how == "tick":
            for number in range(1, params["count"] + 1):
                config.progress("Event", {"phase": "tick", "usage": {"tokens": number}})
                time.sleep(0.05)
        if how == "burn":
            while True:
                pass
        names = {
            "duplicate": ["outputs/Same.txt", "outputs/same.txt"],
            "escape": ["outputs/../../elsewhere.txt"],
        }.get(how, ["outputs/fine.txt"])
        time.sleep(params.get("seconds", 0))
        items = [OutputItem(name, b"bytes", "text/plain") for name in names]
        return ProcessorResult(outputs=items, usage={}, processor_info="hostile 1.0.0")

    return run
