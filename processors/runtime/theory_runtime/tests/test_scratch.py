"""What runs leave in the folders that they share, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from theory_runtime import scratch
from theory_runtime.spill import Spill


def test_everything_is_removed_and_no_link_followed(tmp_path: Path) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    (shared / "a" / "b").mkdir(parents=True)
    (shared / "a" / "b" / "file").touch()
    (shared / "a" / "b").chmod(0)
    (shared / "a").chmod(0)
    (shared / "file").touch()
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (shared / "link").symlink_to(elsewhere)
    assert scratch.clean([shared, tmp_path / "missing"])
    assert list(shared.iterdir()) == []
    assert (elsewhere / "kept").exists()


def test_what_stays_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(Path, "unlink", lambda *_given, **_more: None)
    assert not scratch.clean([tmp_path])


def test_a_spill_that_fails_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spill = Spill(tmp_path / "missing")
    for seq in (1, 2):
        spill.push(seq, b"frame")
    assert spill.after(0) is None
    said = capsys.readouterr().err
    assert said == "frames cannot be kept on disk: No such file or directory\n"
