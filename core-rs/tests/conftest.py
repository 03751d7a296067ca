"""Options and fixtures of the core's tests."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from theory_core import Report, verify

Head = tuple[int, str]
Prev = Head | str | None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--external-vectors",
        type=Path,
        metavar="DIR",
        help="folder with third-party vectors; without it their tests are skipped",
    )


@pytest.fixture(scope="session")
def external_vectors(pytestconfig: pytest.Config) -> Path:
    folder: Path | None = pytestconfig.getoption("--external-vectors")
    if folder is None:
        pytest.skip("--external-vectors is not given")
    return folder


@pytest.fixture(scope="session")
def independent() -> ModuleType:
    """The second verifier, with a memory for hashes: mutations leave most lines alone."""
    spec = importlib.util.spec_from_file_location(
        "independent", Path(__file__).with_name("independent.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__dict__["digest"] = functools.lru_cache(maxsize=1 << 14)(module.digest)
    return module


@pytest.fixture(scope="session")
def both(independent: ModuleType) -> Callable[..., Report]:
    """Judge an export; the wheel's report, after the second verifier found the same."""

    def judge(
        export: bytes, head: Head | None = None, prev: Prev = None, *, empty: bool = False
    ) -> Report:
        report = verify(export, expect_head=head, expect_prev=prev, allow_empty=empty)
        start = (0, "") if prev is None else (None, prev) if isinstance(prev, str) else prev
        fault = report.fault and (report.fault.seq, report.fault.reason, report.fault.line)
        found = (report.count, report.head, report.anchored, fault)
        assert independent.verify(export, head, start, empty=empty) == found, export
        return report

    return judge
