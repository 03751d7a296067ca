"""The built wheel works where nothing else is, and the source distribution builds by itself."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from email.parser import BytesParser
from pathlib import Path

import pytest

import theory_core

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CORE = Path(__file__).parents[1]
NAMES = (
    "import sys, theory_core\n"
    "assert theory_core.__file__.startswith(sys.prefix), theory_core.__file__\n"
    "names = sorted(theory_core.__all__)\n"
    "print(names, all(hasattr(theory_core, name) for name in names))\n"
)


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, check=False, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer


def building() -> dict[str, str]:
    """The environment of a build: tools of this interpreter, the lock file as it is."""
    tools = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {
        **kept,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "MATURIN_PEP517_ARGS": "--locked",
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = ["maturin", "build", "--release", "--locked", "--quiet", "--out"]
    run(sys.executable, "-m", *command, target, cwd=CORE, env=building())
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "maturin", "sdist", "--out", target, cwd=CORE, env=building())
    (built,) = target.glob("*.tar.gz")
    return built


class House:
    """An environment with one wheel and nothing else, and a folder without any sources."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        shutil.copytree(CORE / "vectors", self.folder / "vectors")
        shutil.copy(CORE / "README.md", self.folder)
        self.bin = folder / "venv" / "bin"
        env = building()
        run(sys.executable, "-m", "venv", "--without-pip", self.bin.parent, cwd=folder, env=env)
        install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        pip = ["-m", "pip", "--python", str(self.bin / "python"), *install]
        run(sys.executable, *pip, wheel, cwd=folder, env=env)

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints."""
        env = {"PATH": os.defpath}
        return run(self.bin / program, *arguments, cwd=self.folder, env=env).stdout

    def holds(self) -> None:
        """Everything that can be asked of the package here."""
        assert self.run("python", "-c", NAMES) == f"{sorted(theory_core.__all__)} True\n"
        judged = self.run("python", "vectors/judge.py")
        held, of, count, words = judged.strip().split(" ", 3)
        assert (held, of, words) == (count, "of", "vectors hold")
        assert int(count) > 1000
        assert self.run("python", "-m", "doctest", "README.md") == ""
        (self.folder / "empty").write_bytes(b"")
        assert theory_core.digest(b"") in self.run("theory-core", "hash", "empty")
        others = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
        assert self.run("python", "-c", others) == "theory-core\n"


def test_the_wheel_holds_every_vector_with_the_sources_out_of_sight(
    wheel: Path, tmp_path: Path
) -> None:
    House(tmp_path, wheel).holds()


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        about = BytesParser().parsebytes(archive.read(metadata))
    assert wheel.name.startswith("theory_core-")
    assert "-cp311-abi3-" in wheel.name
    sources = (CORE / "python" / "theory_core").glob("*.*")
    assert {name for name in names if ".dist-info/" not in name} == {
        "theory_core/_core.abi3.so",
        *(f"theory_core/{path.name}" for path in sources),
    }
    assert about.get_all("Requires-Dist") is None
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_distribution_builds_alone_and_gives_the_same(
    sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Cargo.lock", "LICENSE", "README.md", "pyproject.toml"} <= names
    pip = ["-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    alone = tmp_path / "alone"
    alone.mkdir()
    # What the workspace built lies elsewhere: cargo takes equal crates for built ones, pip wheels.
    env = {**building(), "CARGO_TARGET_DIR": str(tmp_path / "target")}
    pip += ["--no-cache-dir", "--wheel-dir", str(alone)]
    run(sys.executable, *pip, sdist, cwd=alone, env=env)
    assert (tmp_path / "target" / "release").is_dir()
    (built,) = alone.glob("*.whl")
    House(tmp_path, built).holds()
