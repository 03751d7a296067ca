"""Appends to the home in its first argument until it is killed; says what was acknowledged.

One line an append: the plan, a blank, the seq of its last event.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from theory_api.adapters.conftest import Story
from theory_api.adapters.files.home import open_home
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.domain import events as ev


async def main(root: str) -> None:
    """Write plan after plan, in batches of different sizes."""
    home = open_home(Path(root))
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o1")
    print("ready", epoch, flush=True)  # noqa: T201
    number = 0
    while True:
        number += 1
        stories = [Story(f"/world/acme/p{os.getpid()}-{number}-{part}") for part in range(3)]
        await store.append(
            [story.created(tokens=1000) for story in stories], shard="s0", epoch=epoch
        )
        for turn in range(number % 7):
            hold = {"tokens": turn + 1}
            name = f"t{turn}"
            batch = [
                story.append(
                    story.proposed(name),
                    *story.started(name, **hold),
                    *story.settled(name, hold=hold, actual=hold),
                    *(ev.PlanPaused(by="local", reason="x" * 500) for _ in range(turn)),
                )
                for story in stories
            ]
            await store.append(batch, shard="s0", epoch=epoch)
            for story in stories:
                print(story.plan, story.seq, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
