"""Fetch one commit of a Git repository and hand its files on as a tar whose bytes are its own."""

from __future__ import annotations

import http.client
import io
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from theory_core import TheoryError, canonicalize
from theory_runtime import Config, OutputItem, ProcessorResult
from theory_runtime.egress import Spot, connection, locate

NAME: Final = "git-clone"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.git.v1"
MAX_RECEIVED_BYTES: Final = 256 * 1024 * 1024
MAX_TREE_BYTES: Final = 224 * 1024 * 1024
MAX_FILES: Final = 20_000
MAX_TREES: Final = 20_000
MAX_DEPTH: Final = 64
MAX_PATH_BYTES: Final = 512
MAX_LEFT_OUT: Final = 1000
REQUEST_TIMEOUT_S: Final = 60
DEFAULT_REF: Final = "HEAD"

_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ADVERTISED: Final = "application/x-git-"
_MOCK: Final = (
    ("README.md", b"A stand-in for a repository that mode mock does not fetch.\n"),
    ("tests/test_mock.py", b"def test_that_there_is_a_suite() -> None:\n    assert True\n"),
)


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `git/clone@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        url, ref = params.get("url"), params.get("ref", DEFAULT_REF)
        if not isinstance(ref, str) or not _REF.fullmatch(ref) or ".." in ref or "//" in ref:
            raise _refused("ref_invalid")
        work = Path(config.work_dir)
        if config.mode == "real":
            spot = locate(url)
            if "?" in spot.target:
                raise _refused("uri_invalid")
            found = fetch(spot, ref, params.get("depth", 1), work / "repository")
        else:
            found = Found("0" * 40, "0" * 40, list(_MOCK), [])
        target = work / "tree.tar"
        pack(found.files, target)
        facts = {
            "schema": SCHEMA,
            "url": url,
            "ref": ref,
            "commit": found.commit,
            "tree": found.tree,
            "files": len(found.files),
            "left_out": [{"path": path, "kind": kind} for path, kind in found.left_out],
        }
        return ProcessorResult(
            outputs=[
                OutputItem("outputs/tree.tar", target, "application/x-tar"),
                OutputItem("outputs/facts.json", canonicalize(facts), "application/json"),
            ],
            usage={},
            processor_info=f"{NAME} {VERSION}",
        )

    return run


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _failed(reason: str) -> TheoryError:
    return TheoryError("ERR_PROVIDER", "provider call failed", {"reason": reason})


class Found:
    """A commit and its plain files; what is none is named instead."""

    def __init__(
        self,
        commit: str,
        tree: str,
        files: list[tuple[str, bytes]],
        left_out: list[tuple[str, str]],
    ) -> None:
        self.commit = commit
        self.tree = tree
        self.files = files
        self.left_out = left_out


# Fetching


class _Answer:
    """What the Git library looks at of an HTTP answer."""

    redirect_location = ""
    """Law: nobody goes where a redirect points; one is a failure before it comes here."""

    def __init__(self, answer: http.client.HTTPResponse, wire: http.client.HTTPConnection) -> None:
        self.status = answer.status
        self.content_type = answer.getheader("Content-Type") or ""
        self._wire = wire

    def close(self) -> None:
        """Give the connection up."""
        self._wire.close()


class Wire:
    """HTTP for the Git library: to the one address that was checked, below the one URL."""

    def __init__(self, spot: Spot) -> None:
        self._spot = spot
        self._room = MAX_RECEIVED_BYTES
        self._open: list[http.client.HTTPConnection | http.client.HTTPResponse] = []

    def request(
        self, url: str, headers: Mapping[str, str] | None, data: bytes | Iterator[bytes] | None
    ) -> tuple[_Answer, Callable[[int], bytes]]:
        """One request; raises `ERR_PROVIDER` with `detail.reason` for all but a good answer."""
        asked = urlsplit(url)
        target = asked.path + (f"?{asked.query}" if asked.query else "")
        if not target.startswith(self._spot.target.rstrip("/")):
            raise _failed("outside")
        body = data if data is None or isinstance(data, bytes) else b"".join(data)
        wire = connection(self._spot, timeout_s=REQUEST_TIMEOUT_S)
        self._open.append(wire)
        said = {**(headers or {}), "Host": self._spot.authority, "Accept-Encoding": "identity"}
        said["User-Agent"] = f"git/theory-{NAME}/{VERSION}"
        wire.request("GET" if body is None else "POST", target, body=body, headers=said)
        answer = wire.getresponse()
        self._open.append(answer)
        if answer.status != http.HTTPStatus.OK:
            raise _failed(f"status_{answer.status}")
        if not (answer.getheader("Content-Type") or "").startswith(_ADVERTISED):
            raise _failed("not_git")

        def read(count: int = -1) -> bytes:
            piece = answer.read(None if count < 0 else count)
            self._room -= len(piece)
            if self._room < 0:
                raise _refused("repository_too_large")
            return piece

        return _Answer(answer, wire), read

    def close(self) -> None:
        """Give all connections up."""
        for each in self._open:
            each.close()


def fetch(spot: Spot, ref: str, depth: int, folder: Path) -> Found:
    """One commit of a repository: the tip of a branch or a tag, or a commit by its name.

    Neither hooks nor configuration nor submodules of the repository are looked at. Raises
    `ERR_INPUTS` with `detail.reason`: `ref_unknown`, `repository_too_large`; `ERR_PROVIDER`:
    `status_…`, `not_git`, `timeout`, `unreachable`, `git_failed`.
    """
    from dulwich import client as git  # noqa: PLC0415 - a heavy import
    from dulwich import repo  # noqa: PLC0415 - as above

    wire = Wire(spot)

    class Client(git.AbstractHttpGitClient):
        def _http_request(
            self,
            url: str,
            headers: dict[str, str] | None = None,
            data: bytes | Iterator[bytes] | None = None,
            raise_for_status: bool = True,  # noqa: FBT001, FBT002 - the library's signature
        ) -> Any:  # noqa: ANN401 - what the library takes for an answer
            del raise_for_status
            return wire.request(url, headers, data)

    folder.mkdir()
    store = repo.Repo.init_bare(str(folder))
    base = f"{spot.scheme}://{spot.authority}"
    wanted: list[bytes] = []

    def choose(refs: Mapping[Any, Any], depth: int | None = None) -> list[Any]:
        del depth
        wanted.append(_choose(refs, ref))
        return wanted

    try:
        Client(base, quiet=True).fetch(
            spot.target, store, determine_wants=choose, depth=depth, protocol_version=0
        )
        return _found(store, wanted[0])
    except (TheoryError, MemoryError):
        raise
    except TimeoutError as error:
        raise _failed("timeout") from error
    except (OSError, http.client.HTTPException) as error:
        raise _failed("unreachable") from error
    except Exception as error:  # the one boundary to a library that raises any type
        raise _failed("git_failed") from error
    finally:
        wire.close()
        store.close()


def _choose(refs: Mapping[bytes, bytes], ref: str) -> bytes:
    """What a name means: `HEAD`, a branch, a tag (what it points to), or a commit offered whole."""
    if _COMMIT.fullmatch(ref):
        # A server need not hand out more than it advertises; asking is the only way to know.
        return ref.encode()
    names = [ref] if ref == DEFAULT_REF or ref.startswith("refs/") else []
    names += [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    for name in names:
        for key in (f"{name}^{{}}".encode(), name.encode()):
            if refs.get(key):
                return refs[key]
    raise _refused("ref_unknown")


# Reading the tree


class Objects(Protocol):
    """The objects of a repository by name."""

    def __getitem__(self, name: bytes) -> Any:  # noqa: ANN401 - a commit, a tree, a blob or a tag
        """The object; `KeyError` if it is not there."""


def _found(store: Objects, name: bytes) -> Found:
    thing = store[name]
    while thing.type_name == b"tag":
        thing = store[thing.object[1]]
    if thing.type_name != b"commit":
        raise _refused("ref_unknown")
    left_out: list[tuple[str, str]] = []
    files = sorted(_files(store, thing.tree, left_out))
    commit, tree = thing.id.decode("ascii"), thing.tree.decode("ascii")
    return Found(commit, tree, files, sorted(left_out)[:MAX_LEFT_OUT])


def _files(
    store: Objects, root: bytes, left_out: list[tuple[str, str]]
) -> Iterator[tuple[str, bytes]]:
    """The plain files of a tree; links, submodules and names that are none go to `left_out`.

    Law: a tree that names itself over and over ends at a cap, not at the end of the memory.
    """
    open_trees: list[tuple[str, bytes, int]] = [("", root, 0)]
    trees, files, room = 0, 0, MAX_TREE_BYTES
    while open_trees:
        prefix, tree, depth = open_trees.pop()
        trees += 1
        if trees > MAX_TREES or depth > MAX_DEPTH:
            raise _refused("repository_too_large")
        for entry in store[tree].items():
            path = _path(prefix, entry.path)
            if path is None:
                left_out.append((prefix, "name"))
            elif stat.S_ISDIR(entry.mode):
                open_trees.append((f"{path}/", entry.sha, depth + 1))
            elif not stat.S_ISREG(entry.mode):
                left_out.append((path, "link" if stat.S_ISLNK(entry.mode) else "submodule"))
            else:
                body = store[entry.sha].data
                files, room = files + 1, room - len(body)
                if files > MAX_FILES or room < 0:
                    raise _refused("repository_too_large")
                yield path, body


def _path(prefix: str, name: bytes) -> str | None:
    """The path of an entry, or None if no file may be called so."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if text in {"", ".", ".."} or text.lower() == ".git" or "/" in text or "\\" in text:
        return None
    path = prefix + text
    return path if text.isprintable() and len(path.encode()) <= MAX_PATH_BYTES else None


# Packing


def pack(files: Sequence[tuple[str, bytes]], target: Path) -> None:
    """A tar of files by path: no times, no owners, no rights but reading and writing."""
    with tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as archive:
        for path, body in files:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(body), 0o644
            archive.addfile(entry, io.BytesIO(body))
