"""What an examination found: one verdict for each case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from theory_api.delivery.conformance.bench import Bench

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"

Standing = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How a case ended, and what was seen."""

    standing: Standing
    seen: str


@dataclass(frozen=True, slots=True)
class Case:
    """One rule of the contract, and how it is tried.

    Law: a case judges its own rule alone, so that one fault of a processor is one failed case.
    """

    id: str
    section: str
    """Where the rule stands: a section of the contract or a rule of the specification."""
    rule: str
    judge: Callable[[Bench], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a case found."""

    id: str
    section: str
    rule: str
    standing: Standing
    seen: str

    def document(self) -> dict[str, Any]:
        """As it is reported to programs."""
        return {
            "id": self.id,
            "section": self.section,
            "rule": self.rule,
            "standing": self.standing,
            "seen": self.seen,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All verdicts about one processor."""

    ref: str
    target: str
    verdicts: Sequence[Verdict]

    def of(self, standing: Standing) -> list[str]:
        """The ids of the cases that ended so."""
        return [verdict.id for verdict in self.verdicts if verdict.standing == standing]

    def document(self) -> dict[str, Any]:
        """As it is reported to programs."""
        return {
            "schema": "theory.conformance-report.v1",
            "ref": self.ref,
            "target": self.target,
            "passed": len(self.of(PASSED)),
            "failed": len(self.of(FAILED)),
            "skipped": len(self.of(SKIPPED)),
            "cases": [verdict.document() for verdict in self.verdicts],
        }


def passed(seen: str) -> Finding:
    """The rule was kept."""
    return Finding(PASSED, seen)


def failed(seen: str) -> Finding:
    """The rule was broken."""
    return Finding(FAILED, seen)


def skipped(reason: str) -> Finding:
    """The rule could not be tried with this sample."""
    return Finding(SKIPPED, reason)


def verdict(wrong: str | None, right: str) -> Finding:
    """Failed with what is wrong, passed where nothing is."""
    return passed(right) if wrong is None else failed(wrong)
