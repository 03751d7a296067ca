"""The steps of a build that do not end, or fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from theory_api.delivery import images
from theory_core import TheoryError

HANGS = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
)


def test_a_step_that_hangs_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grandchild holds the pipe: who killed the child alone would wait for it."""
    monkeypatch.setattr(images, "STEP_S", 1.0)
    began = time.monotonic()
    with pytest.raises(TheoryError, match=r"did not end within 1 s"):
        images._run([sys.executable, "-c", HANGS])
    assert time.monotonic() - began < 30


def test_a_step_that_fails_says_what_it_said_last() -> None:
    with pytest.raises(TheoryError, match="failed: no such package"):
        images._run([sys.executable, "-c", "print('no such package'); raise SystemExit(1)"])


def test_the_wheel_is_that_of_the_machine_or_one_for_all(tmp_path: Path) -> None:
    names = (
        "theory_core-0.1.0-cp311-abi3-manylinux_2_34_x86_64.whl",
        "theory_core-0.1.0-cp311-abi3-manylinux_2_34_aarch64.whl",
        "theory_runtime-0.1.0-py3-none-any.whl",
    )
    for name in names:
        (tmp_path / name).touch()
    assert images._wheel(tmp_path, "theory_core", "x86_64").name == names[0]
    assert images._wheel(tmp_path, "theory_core", "aarch64").name == names[1]
    assert images._wheel(tmp_path, "theory_runtime", "aarch64").name == names[2]
    (tmp_path / names[1]).unlink()
    cache, source = tmp_path / "cache", images.Source("a/b@1", tmp_path, "theory/a-b-v1")
    with pytest.raises(TheoryError, match="0 wheels of theory_core for aarch64") as refused:
        images.Builder(cache, tmp_path, platform="arm64").build(source, lambda _text: None)
    assert refused.value.code == "ERR_UNAVAILABLE"
    assert not cache.exists(), "nothing was fetched for an image that cannot be made"
