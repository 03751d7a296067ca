"""Run a pytest suite out of a tar file and report it as JUnit XML whose bytes name no machine."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from theory_core import TheoryError, canonicalize
from theory_runtime import Config, OutputItem, ProcessorResult

NAME: Final = "pytest-suite"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.tests.v1"
MAX_TAR_BYTES: Final = 256 * 1024 * 1024
MAX_FILES: Final = 20_000
MAX_PATH_BYTES: Final = 512
MAX_REPORT_BYTES: Final = 16 * 1024 * 1024
MAX_CASES: Final = 20_000
MAX_NAME_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 2000
MAX_TEXTS_CHARS: Final = 512 * 1024
"""Of all failures together; what comes later is reported without its text."""
MAX_LOG_LINES: Final = 1000
MAX_LINE_CHARS: Final = 500
DEFAULT_TIMEOUT_S: Final = 240
RUN_DIR: Final = "THEORY_RUN_DIR"

_TARGET: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}(::[A-Za-z0-9_\[\]., -]{1,200})*")
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,16}\b")
_PLAIN: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE})
_PIECE_BYTES: Final = 1 << 20
_REPORTED: Final = frozenset({0, 1, 2, 5})
"""How pytest ends when the suite was run: passed, failed, could not be collected, is empty."""


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `ci/pytest@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        suite = params.get("suite")
        if not isinstance(suite, Mapping) or not isinstance(suite.get("local_path"), str):
            raise _refused("suite_missing")
        targets = params.get("targets", [])
        if not all(map(_is_target, targets)):
            raise _refused("target_invalid")
        work = Path(config.work_dir).resolve()
        folder, report = work / "suite", work / "report.xml"
        unpack(Path(suite["local_path"]), folder)
        told = Teller(config)
        code = _pytest(work, targets, params.get("timeout_s", DEFAULT_TIMEOUT_S), told)
        if code not in _REPORTED or not report.exists():
            raise _refused("suite_without_report")
        found = Report(work)
        found.read(report)
        facts = {"schema": SCHEMA, "source": suite.get("cid"), "exit_code": code, **found.counts()}
        return ProcessorResult(
            outputs=[
                OutputItem("outputs/junit.xml", found.text().encode(), "application/xml"),
                OutputItem("outputs/facts.json", canonicalize(facts), "application/json"),
            ],
            usage={},
            processor_info=f"{NAME} {VERSION} (pytest {_version()})",
        )

    return run


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - the runner alone needs it

    return version("pytest")


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _is_target(target: object) -> bool:
    """Whether it names a file, folder or test of the suite, and can be no option."""
    return (
        isinstance(target, str)
        and _TARGET.fullmatch(target) is not None
        and ".." not in target.partition("::")[0].split("/")
    )


# Unpacking


def unpack(archive: Path, folder: Path) -> None:
    """Write the plain files of a tar into a new folder.

    Law: nothing is written unless every entry is good, and nothing is ever written through a link
    or beside the folder. Raises `ERR_INPUTS` with `detail.reason`: `tar_too_large`, `tar_invalid`,
    `tar_too_many`, `tar_entry` (a link, a device, a path that is absolute or climbs, a name twice).
    """
    if archive.stat().st_size > MAX_TAR_BYTES:
        raise _refused("tar_too_large")
    try:
        with tarfile.open(archive, "r:") as tar:
            entries = list(_entries(tar))
            folder.mkdir(mode=0o700)
            for path, member in entries:
                _write(tar, member, folder / path)
    except (tarfile.TarError, UnicodeError, ValueError, EOFError) as error:
        if isinstance(error, TheoryError):
            raise
        raise _refused("tar_invalid") from error
    except OSError as error:
        # A file where a folder has to be, or a name that this file system does not hold.
        raise _refused("tar_entry") from error


def _entries(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    seen: set[str] = set()
    room = MAX_TAR_BYTES
    for count, member in enumerate(tar):
        if count >= MAX_FILES:
            raise _refused("tar_too_many")
        if member.isdir():
            continue
        path = member.name.removeprefix("./")
        if member.type not in _PLAIN or member.issparse() or not _is_inside(path) or path in seen:
            raise _refused("tar_entry")
        room -= member.size
        if room < 0:
            raise _refused("tar_too_large")
        seen.add(path)
        yield path, member


def _is_inside(path: str) -> bool:
    """Whether a name is relative, climbs nowhere, and can be shown."""
    return (
        0 < len(path.encode("utf-8", "surrogatepass")) <= MAX_PATH_BYTES
        and path.isprintable()
        and "\\" not in path
        and not any(segment in {"", ".", ".."} for segment in path.split("/"))
    )


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    body = tar.extractfile(member)
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        while body is not None and (piece := body.read(_PIECE_BYTES)):
            file.write(piece)
    if target.stat().st_size != member.size:
        raise _refused("tar_invalid")


# Running


class Teller:
    """Hands lines of pytest on to those who watch, as many as are worth watching."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._room = MAX_LOG_LINES

    def tell(self, line: bytes) -> None:
        """Tell a line, if there is room for it."""
        text = line.decode("utf-8", "replace").rstrip()[:MAX_LINE_CHARS]
        if text and self._room > 0:
            self._room -= 1
            self._config.progress("Log", {"level": "info", "message": text})


def _pytest(work: Path, targets: list[str], timeout_s: int, told: Teller) -> int:
    """Run pytest as a child in our own process group, so that it ends when we are ended.

    Raises `ERR_INPUTS` with `detail.reason` `suite_timeout`.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"]
    command += ["--rootdir", "suite", f"--basetemp={work / 'tmp'}"]
    command += [f"--junitxml={work / 'report.xml'}", "-o", "junit_family=xunit2"]
    command += [f"suite/{target}" for target in targets] or ["suite"]
    with subprocess.Popen(  # noqa: S603 - this interpreter; targets are names inside the suite
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=work,
        env=_environment(work),
    ) as process:
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(timeout_s, stop)
        clock.daemon = True
        clock.start()
        try:
            _follow(process, told)
        except BaseException:
            process.kill()
            raise
        finally:
            clock.cancel()
    if late.is_set():
        raise _refused("suite_timeout")
    return process.returncode


def _follow(process: subprocess.Popen[bytes], told: Teller) -> None:
    """Tell what pytest says until it ends, not until whatever it started lets go of the pipe."""

    def read() -> None:
        while process.stdout is not None and (line := process.stdout.readline(_PIECE_BYTES)):
            told.tell(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    process.wait()
    reader.join(timeout=1)
    if reader.is_alive():
        process.stdout = None  # a child of the suite has it; the runtime ends that one with us


def _environment(work: Path) -> dict[str, str]:
    """The same on every machine, but for its folders; nothing else of ours is in it.

    Law: the mark of the run goes with it, by which whatever a suite leaves behind is found and
    ended (spec: processors, environment).
    """
    mark = os.environ.get(RUN_DIR)
    return {
        **({} if mark is None else {RUN_DIR: mark}),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work),
        "TMPDIR": str(work),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "CI": "true",
        "COLUMNS": "100",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


# Reporting


@dataclass(slots=True)
class Case:
    """One test: how it went, and why if it did not go well."""

    classname: str
    name: str
    outcome: str = "passed"
    message: str = ""
    text: list[str] = field(default_factory=list)


class Report:
    """The cases of a report without times, hosts, folders and addresses.

    Law: the suite wrote the file, or could have; a document type, and so any entity, is refused.
    """

    def __init__(self, work: Path) -> None:
        self._work = str(work)
        self.cases: list[Case] = []
        self._within = ""

    def read(self, file: Path) -> None:
        """Read pytest's report; raises `ERR_INPUTS` with `detail.reason` `report_invalid`."""
        body = _report_of(file)
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _no_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._said
        try:
            parser.Parse(body, True)  # noqa: FBT003 - positional only
        except (expat.ExpatError, LookupError) as error:
            raise _refused("report_invalid") from error

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "testcase":
            if len(self.cases) >= MAX_CASES:
                raise _refused("report_invalid")
            where, what = attributes.get("classname", ""), attributes.get("name", "")
            self.cases.append(Case(self._clean(where), self._clean(what)))
        elif name in {"failure", "error", "skipped"} and self.cases:
            case = self.cases[-1]
            if case.outcome in {"passed", "skipped"}:
                case.outcome = name
                case.message = self._clean(attributes.get("message", ""))
                self._within = name

    def _end(self, name: str) -> None:
        if name == self._within:
            self._within = ""

    def _said(self, text: str) -> None:
        if self._within:
            self.cases[-1].text.append(text)

    def _clean(self, text: str, most: int = MAX_NAME_CHARS) -> str:
        """`text` as every machine would say it, cut to a length."""
        return _ADDRESS.sub("0x…", text.replace(f"{self._work}/", "").replace(self._work, "."))[
            :most
        ]

    def counts(self) -> dict[str, int]:
        """How many went how."""
        went = [case.outcome for case in self.cases]
        return {
            "tests": len(went),
            "passed": went.count("passed"),
            "failures": went.count("failure"),
            "errors": went.count("error"),
            "skipped": went.count("skipped"),
        }

    def text(self) -> str:
        """The report as XML."""
        stated = {name: count for name, count in self.counts().items() if name != "passed"}
        head = " ".join(f'{name}="{count}"' for name, count in stated.items())
        inner = "".join(self._lines())
        start = '<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n'
        return f'{start}<testsuite name="pytest" {head}>\n{inner}</testsuite>\n</testsuites>\n'

    def _lines(self) -> Iterator[str]:
        room = MAX_TEXTS_CHARS
        for case in self.cases:
            head = f"<testcase classname={quoteattr(case.classname)} name={quoteattr(case.name)}"
            if case.outcome == "passed":
                yield f"{head}/>\n"
                continue
            text = self._clean("".join(case.text), MAX_TEXT_CHARS)[: max(room, 0)]
            room -= len(text)
            inner = f"<{case.outcome} message={quoteattr(case.message)}>{escape(text)}"
            yield f"{head}>{inner}</{case.outcome}></testcase>\n"


def _report_of(file: Path) -> bytes:
    """The bytes of a plain file of bounded length; what the suite put there instead is refused."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused("report_invalid") from error
    with os.fdopen(descriptor, "rb") as report:
        if not stat.S_ISREG(os.fstat(report.fileno()).st_mode):
            raise _refused("report_invalid")
        body = report.read(MAX_REPORT_BYTES + 1)
    if len(body) > MAX_REPORT_BYTES:
        raise _refused("report_invalid")
    return body


def _no_doctype(*_: object) -> None:
    raise _refused("report_invalid")
