"""What a provider is told before it runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CALL: Final = "provider.call"
RESPONSE: Final = "provider.response"
"""Phases of a question to a provider; the control plane logs them by these names."""


@dataclass(frozen=True, slots=True)
class Config:
    """The circumstances of one run; everything that it is about is in `params`."""

    ref: str
    """The processor's own reference, e.g. `media/frames@1`."""
    mode: str
    """`mock`: deterministic bytes, no secrets, no network. `real`: the real thing."""
    execution_id: str
    work_dir: Path
    """An empty folder of this run alone, removed afterwards; also the current directory."""
    progress: Callable[[str, Mapping[str, Any]], None]
    """Tell those who watch: `progress("Event", {"phase": "draw", "progress": 500})`.

    Kinds are `Token`, `Frame`, `Log` and `Event`, contents as in spec, run.v1, but that `progress`
    counts thousandths and `data` of a `Frame` may be bytes; its `stream` is the canonical path of a
    stream of the plan, e.g. `/streams/effectors/mouth/audio`. Another shape is `ERR_INTERNAL`.
    """

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one question to a provider's endpoint, up to the end of its answer.

        Law: what is asked and answered is told to nobody (spec: logs); a question that has no
        answer has no `provider.response`.
        """
        self.progress("Event", {"phase": CALL})
        yield
        self.progress("Event", {"phase": RESPONSE})
