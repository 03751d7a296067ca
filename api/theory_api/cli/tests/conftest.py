"""A home with a finished plan, made once, and desks in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from theory_api.cli.main import main
from theory_api.cli.tests.desk import PLAN, TEXT, Desk, environment

if TYPE_CHECKING:
    from theory_api.cli.tests.cloud import Running


@pytest.fixture(autouse=True)
def log_of_one_process() -> Iterator[None]:
    """Each test is a process of its own as far as the log is concerned."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose home holds the completed plan `story`; to be read, never changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        environment(folder, patch)
        attach = f"text={folder / 'text.txt'}"
        home = str(folder / "home")
        code = main(
            ["plan", "apply", str(folder / "plan.yaml"), "--attach", attach, "--home", home]
        )
        structlog.reset_defaults()
        assert code == 0
    return folder


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A desk with an empty home."""
    environment(tmp_path, monkeypatch)
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return Desk(tmp_path, capsys)


@pytest.fixture
def modal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A cloud that this desk is set up for."""
    from theory_api.cli.tests.cloud import running_cloud  # noqa: PLC0415 - its SDK takes a second

    with running_cloud(desk.folder, monkeypatch) as running:
        yield running


@pytest.fixture
def story(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A desk with the finished plan."""
    environment(finished, monkeypatch)
    return Desk(finished, capsys)
