"""Empties the folders that the runs of one server share, so that none reads what another left."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path


def clean(folders: Sequence[Path]) -> bool:
    """Remove everything in the folders; whether nothing is left. A folder that is missing is empty.

    Law: only once nothing of a run is alive. What is a link is removed, never followed.
    """
    for folder in folders:
        for entry in _entries(folder):
            if stat.S_ISDIR(entry.lstat().st_mode):
                _open(entry)
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return not any(_entries(folder) for folder in folders)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _open(folder: Path) -> None:
    """Let their owner, which this is, look into folders that forbid it."""
    folder.chmod(0o700)
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for inner in found:
        _open(inner)
