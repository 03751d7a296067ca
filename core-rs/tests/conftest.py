"""Options and fixtures of the core's tests."""

from pathlib import Path

import pytest


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
