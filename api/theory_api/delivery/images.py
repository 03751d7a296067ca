"""Builds the image of a processor from its source, its lock and our wheels: no engine, no registry.

The result is an archive that an engine loads; its image id is known before, and is the same for the
same source, lock, wheels and base.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from theory_api.delivery import layers
from theory_api.delivery.layers import Entry
from theory_api.observability.redaction import Redactor
from theory_core import ERROR_CODES, TheoryError, canonicalize, digest, digest_file

SUITE: Final = "bookworm"
PYTHON: Final = "3.11"
"""What `SUITE` has; wheels are chosen for it."""
PACKAGES: Final = ("ca-certificates", "python3")
USER: Final = 10001
TAG: Final = "build"
"""The tag under which lane build finds what was built last."""

SITE: Final = "usr/local/lib/python3.11/dist-packages"
LIBRARY: Final = "usr/lib/python3.11"
HOME: Final = "opt/theory"
WHEELS: Final = ("theory_core", "theory_runtime")
EXTRA: Final = "packages.txt"
"""Debian packages that a processor needs besides, one a line."""

_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC: Final = range(36, 4, -1)
"""Minor versions of the C library 2.x whose wheels the suite can load."""
_EPOCH: Final = "1704067200"
_TAIL: Final = 800
STEP_S: Final = 1800.0
"""For one program of a build to end."""

_START: Final = b'''"""Start a processor; others than its user may use the socket that it makes."""
import os, runpy, sys
os.umask(0)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
'''
"""The base has no shell."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """A processor as it lies on disk."""

    ref: str
    folder: Path
    repository: str
    """Where its image belongs, without a tag."""
    mode: str = "real"
    """`real` installs what mode real needs, which serves both modes; `mock` what mock needs."""
    tag: str = TAG

    def lock(self) -> Path:
        """Its hash-locked requirements."""
        real = self.folder / "requirements-real.txt"
        return real if self.mode == "real" and real.is_file() else self.folder / "requirements.txt"

    def packages(self) -> tuple[str, ...]:
        """Debian packages that its image holds."""
        extra = self.folder / EXTRA
        lines = extra.read_text(encoding="ascii").splitlines() if extra.is_file() else []
        named = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
        return tuple(sorted({*PACKAGES, *named}))


@dataclass(frozen=True, slots=True)
class Archive:
    """An image that an engine can load."""

    file: Path
    image_id: str
    """Digest of its configuration: what the engine calls it."""
    reference: str
    """`repository:build`, for another machine than this one `repository:build-arm64`."""


class Builder:
    """Builds images below `{cache}/images`; layers that are there are used again.

    Everything here waits for other programs and belongs in a thread.
    """

    def __init__(self, cache: Path, wheels: Path, *, platform: str) -> None:
        self._root = cache / "images"
        self._wheels = wheels
        self._platform = platform

    def build(self, source: Source, on_progress: Progress) -> Archive:
        """The archive of an image.

        Raises `TheoryError`: `ERR_UNAVAILABLE` (a tool, a wheel or a package is missing),
        `ERR_STORAGE`.
        """
        if self._platform not in _MACHINES:
            raise _unavailable(f"there are no images for {self._platform}")
        machine = _MACHINES[self._platform]
        wheels = [_wheel(self._wheels, name, machine) for name in WHEELS]
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with _locked(self._root / "lock"):
                base = self._base(source.packages(), on_progress)
                code = self._code(base, on_progress)
                site = self._site(source, wheels, on_progress)
                own = self._own(source)
                return self._archive(source, (base, code, site, own))
        except OSError as error:
            message = f"storage unavailable: an image cannot be written: {error.strerror}"
            raise TheoryError("ERR_STORAGE", message) from error

    # -- layers -----------------------------------------------------------------------------

    def _base(self, packages: Sequence[str], on_progress: Progress) -> Path:
        """The operating system: Python and what was asked for, unpacked, nothing started."""
        facts = {"suite": SUITE, "packages": list(packages), "platform": self._platform}
        target = self._root / f"base-{_key(facts)}.tar"
        if target.is_file():
            return target
        if shutil.which("mmdebstrap") is None:
            raise _unavailable("mmdebstrap is not installed: apt-get install mmdebstrap")
        on_progress("Making the base of images (first time only)")
        part = target.with_suffix(".part.tar")
        command = [
            *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={self._platform}"),
            f"--include={','.join(packages)}",
            *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
            *("--dpkgopt=path-exclude=/usr/share/locale/*", SUITE, str(part)),
        ]
        _run(command, environment={"SOURCE_DATE_EPOCH": _EPOCH})
        part.rename(target)
        return target

    def _code(self, base: Path, on_progress: Progress) -> Path:
        """Byte code of Python's own library: a worker that has to compile it starts a second late.

        Where another Python builds, the layer is empty.
        """
        key = _key({"base": base.name, "compiled": _compiles()})
        target = self._root / f"code-{key}.tar"
        if target.is_file():
            return target
        on_progress("Compiling Python's library (first time only)")
        part = target.with_suffix(".part.tar")
        with tempfile.TemporaryDirectory(dir=self._root) as made:
            folder = Path(made)
            if _compiles():
                with tarfile.open(base) as archive:
                    archive.extractall(folder, members=_sources(archive), filter="data")
                _compile(folder / LIBRARY, f"/{LIBRARY}")
            found = layers.below(
                folder / LIBRARY, LIBRARY, wanted=lambda path: path.suffix == ".pyc"
            )
            layers.write(part, found)
        part.rename(target)
        return target

    def _site(self, source: Source, wheels: Sequence[Path], on_progress: Progress) -> Path:
        """What the processor imports: its locked requirements, then our two wheels."""
        lock = source.lock()
        facts = {
            "lock": digest(lock.read_bytes()),
            "wheels": [digest_file(wheel) for wheel in wheels],
            "platform": self._platform,
            "python": PYTHON,
            "compiled": _compiles(),
        }
        target = self._root / f"site-{_key(facts)}.tar"
        if target.is_file():
            return target
        on_progress(f"Installing what {source.ref} needs")
        with tempfile.TemporaryDirectory(dir=self._root) as made:
            folder = Path(made) / "site"
            pip = [*_pip(), "install", "--target", str(folder), "--no-compile", "--upgrade"]
            chosen = ["--only-binary", ":all:", *_tags(self._platform)]
            _run([*pip, *chosen, "--require-hashes", "-r", str(lock)])
            _run([*pip, *chosen, "--no-deps", "--no-index", *map(str, wheels)])
            _compile(folder, f"/{SITE}")
            part = target.with_suffix(".part.tar")
            layers.write(part, layers.below(folder, SITE, wanted=_wanted))
            part.rename(target)
        return target

    def _own(self, source: Source) -> Path:
        """The processor's source, and the one user of the image."""
        place = f"{HOME}/{source.ref.replace('@', '/')}"
        user = f"theory:x:{USER}:{USER}::/tmp:/bin/false\n".encode()
        entries = [
            *layers.below(source.folder, place, wanted=_shipped),
            Entry("etc/passwd", b"root:x:0:0::/:/bin/false\n" + user),
            Entry("etc/group", f"root:x:0:\ntheory:x:{USER}:\n".encode()),
            Entry(f"{HOME}/start.py", _START),
            Entry("run/theory"),
        ]
        part = self._root / "own.part.tar"
        found = layers.write(part, entries).removeprefix("sha256:")
        return part.rename(self._root / f"own-{found[:32]}.tar")

    # -- the image --------------------------------------------------------------------------

    def _archive(self, source: Source, parts: Sequence[Path]) -> Archive:
        """One file with the layers, the configuration and a manifest."""
        config = _config(source, self._platform, [layers.digest_of(part) for part in parts])
        image_id = f"sha256:{sha256(config).hexdigest()}"
        name = image_id.removeprefix("sha256:")
        reference = f"{source.repository}:{source.tag}"
        manifest = [
            {
                "Config": f"{name}.json",
                "RepoTags": [reference],
                "Layers": [f"{number}.tar" for number in range(len(parts))],
            }
        ]
        target = self._root / f"image-{name[:32]}.tar"
        entries = [
            Entry(f"{name}.json", config),
            Entry("manifest.json", canonicalize(manifest)),
            *(Entry(f"{number}.tar", part) for number, part in enumerate(parts)),
        ]
        if not target.is_file():
            part = target.with_suffix(".part.tar")
            layers.write(part, entries)
            part.rename(target)
        return Archive(target, image_id, reference)


def _config(source: Source, platform: str, diff_ids: Sequence[str]) -> bytes:
    """The configuration: how the image starts, and as whom."""
    main = f"/{HOME}/{source.ref.replace('@', '/')}/main.py"
    start = ["/usr/bin/python3", f"/{HOME}/start.py", main]
    document: dict[str, Any] = {
        "architecture": platform,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": start,
            "WorkingDir": "/",
            "Env": [
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "HOME=/tmp",
                "LANG=C.UTF-8",
                "LC_ALL=C.UTF-8",
                "TZ=UTC",
                "PYTHONDONTWRITEBYTECODE=1",
                "PYTHONNOUSERSITE=1",
                "PYTHONUNBUFFERED=1",
            ],
            "Labels": {"theory.ref": source.ref},
        },
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [
            {"created": "1970-01-01T00:00:00Z", "created_by": f"theory image build: {what}"}
            for what in ("base", "code", "site", "own")
        ],
    }
    return canonicalize(document)


def _sources(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """What Python's own library is written in."""
    return [
        member
        for member in archive
        if member.isfile()
        and member.name.removeprefix("./").startswith(f"{LIBRARY}/")
        and member.name.endswith(".py")
    ]


def _key(facts: dict[str, Any]) -> str:
    return digest(canonicalize(facts)).removeprefix("b3:")[:32]


def _wheel(folder: Path, name: str, machine: str) -> Path:
    """The wheel for a machine, or for all; a folder may hold those of several."""
    ends = (f"_{machine}.whl", "-any.whl")
    found = sorted(file for file in folder.glob(f"{name}-*.whl") if file.name.endswith(ends))
    if len(found) != 1:
        sentence = f"{len(found)} wheels of {name} for {machine} where one is expected"
        raise _unavailable(f"{sentence}: run `make setup`, or name their folder (THEORY_WHEELS)")
    return found[0]


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]


def _tags(platform: str) -> list[str]:
    """What pip may choose, newest first."""
    machine = _MACHINES[platform]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [f"manylinux2014_{machine}"]
    chosen = [word for tag in tags for word in ("--platform", tag)]
    return [*chosen, "--python-version", PYTHON, "--implementation", "cp"]


def _compiles() -> bool:
    """Whether this interpreter writes the byte code that the image's reads."""
    return ".".join(map(str, sys.version_info[:2])) == PYTHON


def _compile(folder: Path, place: str) -> None:
    """Byte code beside the sources: nothing can be written where they will lie."""
    if not _compiles():
        return
    options = ["-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(folder)]
    command = [sys.executable, "-m", "compileall", *options, "-p", place, str(folder)]
    # A package may ship sources that no Python of this version can read: nobody imports them.
    _run(command, environment={"PYTHONHASHSEED": "0"}, expected=(0, 1))


def _wanted(path: Path) -> bool:
    """Law: nothing that tells where or when it was installed."""
    if path.parts[0] == "bin":
        return False
    info = any(part.endswith(".dist-info") for part in path.parts)
    return not (info and path.name in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})


def _shipped(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and not {"tests", "__pycache__"} & set(path.parts)


def _run(
    command: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    expected: Sequence[int] = (0,),
) -> None:
    """Run one step; raises `TheoryError` `ERR_UNAVAILABLE` with the last lines of what it said.

    Law: a step that hangs ends, with everything that it started; others wait for its lock.
    """
    with subprocess.Popen(  # noqa: S603 - fixed programs, arguments of our own
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    ) as step:
        try:
            output, _ = step.communicate(timeout=STEP_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(step.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            message = f"{Path(command[0]).name} did not end within {STEP_S:g} s"
            raise _unavailable(message) from error
    if step.returncode not in expected:
        said = Redactor().text(output.decode("utf-8", "replace")).strip()[-_TAIL:]
        raise _unavailable(f"{Path(command[0]).name} failed: {said}")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One builder at a time; the lock dies with its process."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _unavailable(sentence: str) -> TheoryError:
    summary = ERROR_CODES["ERR_UNAVAILABLE"].summary
    remedy = "Check the tools, the network and the disk; nothing of it was kept."
    return TheoryError("ERR_UNAVAILABLE", f"{summary}: {sentence}", {"remedy": remedy})
