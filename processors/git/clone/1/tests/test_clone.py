"""A commit is fetched from a real Git server, whole or not at all, and nothing of it is run."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from theory_core import TheoryError

REF = "git/clone@1"


def git(folder: Path, *words: str) -> str:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three commits on main, a branch, a tag; links, a submodule, hooks and attributes in them."""
    root = tmp_path_factory.mktemp("git")
    work = root / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    state = SimpleNamespace(root=root, work=work, commits=[])

    def commit(message: str) -> None:
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", message)
        state.commits.append(git(work, "rev-parse", "HEAD"))

    (work / "a.txt").write_text("one\n")
    commit("first")
    git(work, "tag", "-a", "v1", "-m", "one")
    git(work, "branch", "side/line")
    (work / "sub").mkdir()
    (work / "sub" / "ü.txt").write_text("two\n")
    (work / "a.txt").write_text("two\n")
    commit("second")
    (work / "link").symlink_to("/etc/passwd")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / ".gitattributes").write_text("a.txt export-ignore\nsub/** export-subst\n")
    git(work, "submodule", "--quiet", "add", str(work), "module")
    commit("third")
    git(root, "clone", "-q", "--bare", str(work), "served.git")
    git(root / "served.git", "config", "uploadpack.allowReachableSHA1InWant", "true")
    return state


class Backend(http.server.BaseHTTPRequestHandler):
    """Git's own server program behind HTTP, and a few servers that are none."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.asked.append(self.path)
        path, _, query = self.path.partition("?")
        if path.startswith("/moved.git"):
            self.send_response(301)
            self.send_header("Location", self.path.replace("moved", "served"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path.startswith(("/page.git", "/lies.git")):
            kind = "text/html" if "page" in path else "application/x-git-upload-pack-advertisement"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(b"<html>" * 100)
            return
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=env, check=True, capture_output=True
        )
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        stated = dict(lines)
        self.send_response(int(stated.pop("Status", "200").split()[0]))
        for name, value in stated.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(repository: Any) -> Iterator[Any]:
    asked: list[str] = []
    handler = type("Here", (Backend,), {"root": repository.root, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{served.server_port}", asked=asked)
        served.shutdown()
        thread.join()


@pytest.fixture
def clone(run: Any, server: Any) -> Any:
    def start(name: str = "served.git", mode: str = "real", **params: Any) -> Any:
        ran = run(REF, {"url": f"{server.url}/{name}", **params}, mode=mode)
        body = ran.outputs["outputs/tree.tar"]
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
        return SimpleNamespace(
            facts=json.loads(ran.outputs["outputs/facts.json"]), files=files, tar=body
        )

    return start


def refusal(clone: Any, name: str = "served.git", **params: Any) -> tuple[str, object]:
    with pytest.raises(TheoryError) as caught:
        clone(name, **params)
    return caught.value.code, caught.value.detail["reason"]


def test_the_files_of_the_head_are_handed_on(clone: Any, repository: Any) -> None:
    found = clone()
    assert found.facts["commit"] == repository.commits[2]
    assert found.facts["tree"] == git(repository.work, "rev-parse", "HEAD^{tree}")
    assert found.files["a.txt"] == b"two\n"
    assert found.files["sub/ü.txt"] == b"two\n"
    assert found.facts["files"] == len(found.files) == 5


def test_links_and_submodules_are_named_and_left_out(clone: Any, server: Any) -> None:
    found = clone()
    assert found.facts["left_out"] == [
        {"path": "link", "kind": "link"},
        {"path": "module", "kind": "submodule"},
    ]
    assert "link" not in found.files
    assert all(path.startswith("/served.git/") for path in server.asked)


def test_the_tar_depends_on_the_commit_alone(clone: Any) -> None:
    first, again = clone(), clone(depth=3)
    assert first.tar == again.tar
    with tarfile.open(fileobj=io.BytesIO(first.tar)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(entry.mode, entry.mtime, entry.uid, entry.uname) for entry in entries} == {
        (0o644, 0, 0, "")
    }


@pytest.mark.parametrize(("ref", "index"), [("main", 2), ("side/line", 0), ("v1", 0)])
def test_a_branch_or_a_tag_is_what_it_points_to(
    clone: Any, repository: Any, ref: str, index: int
) -> None:
    assert clone(ref=ref).facts["commit"] == repository.commits[index]


def test_a_commit_is_fetched_by_its_name(clone: Any, repository: Any) -> None:
    found = clone(ref=repository.commits[1], depth=1)
    assert found.facts["commit"] == repository.commits[1]
    assert set(found.files) == {"a.txt", "sub/ü.txt"}


@pytest.mark.parametrize("ref", ["no-such", "refs/heads/none"])
def test_a_name_that_is_not_there_is_refused(clone: Any, ref: str) -> None:
    assert refusal(clone, ref=ref) == ("ERR_INPUTS", "ref_unknown")


def test_a_commit_that_is_not_there_is_a_failure(clone: Any) -> None:
    assert refusal(clone, ref="f" * 40)[0] == "ERR_PROVIDER"


@pytest.mark.parametrize("ref", ["--upload-pack=id", "a..b", "a//b", "a b", "a\n", "", 7])
def test_a_name_outside_the_grammar_is_refused(clone: Any, server: Any, ref: Any) -> None:
    assert refusal(clone, ref=ref) == ("ERR_INPUTS", "ref_invalid")
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.git", "status_404"),
        ("moved.git", "status_301"),
        ("page.git", "not_git"),
        ("lies.git", "git_failed"),
    ],
)
def test_a_server_without_the_repository_is_a_failure(
    clone: Any, server: Any, name: str, reason: str
) -> None:
    assert refusal(clone, name) == ("ERR_PROVIDER", reason)
    assert all(path.startswith(f"/{name}/") for path in server.asked), "no redirect is followed"


def test_what_is_too_much_is_refused(
    providers: Any, server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = providers(REF)
    caps = ("MAX_RECEIVED_BYTES", "MAX_TREE_BYTES", "MAX_FILES", "MAX_TREES", "MAX_DEPTH")
    for place, cap in enumerate(caps):
        with monkeypatch.context() as patch:
            patch.setattr(provider, cap, 0)
            spot = provider.locate(f"{server.url}/served.git")
            with pytest.raises(TheoryError) as caught:
                provider.fetch(spot, "HEAD", 1, tmp_path / str(place))
        assert caught.value.detail == {"reason": "repository_too_large"}, cap


@pytest.mark.parametrize(
    "name", [b"..", b".", b"", b".git", b".GIT", b"a/b", b"a\\b", b"a\nb", b"\xff", b"x" * 600]
)
def test_a_name_that_no_file_may_have_is_left_out(providers: Any, name: bytes) -> None:
    entry = SimpleNamespace(path=name, mode=0o100644, sha=b"blob")
    tree = SimpleNamespace(items=lambda: [entry])
    left_out: list[tuple[str, str]] = []
    assert list(providers(REF)._files({b"tree": tree}, b"tree", left_out)) == []
    assert left_out == [("", "name")]


def test_a_tree_that_holds_itself_ends(providers: Any) -> None:
    names = (b"a", b"b")
    entries = [SimpleNamespace(path=name, mode=0o040000, sha=b"tree") for name in names]
    tree = SimpleNamespace(items=lambda: entries)
    with pytest.raises(TheoryError) as caught:
        list(providers(REF)._files({b"tree": tree}, b"tree", []))
    assert caught.value.detail == {"reason": "repository_too_large"}


def test_mock_fetches_nothing_and_hands_on_a_suite(clone: Any, server: Any) -> None:
    found = clone(mode="mock")
    assert server.asked == []
    assert set(found.files) == {"README.md", "tests/test_mock.py"}
    assert found.tar == clone(mode="mock").tar


@pytest.mark.parametrize(
    "url",
    ["file:///etc", "ext::sh -c id", "git://127.0.0.1/x", "ssh://a/b", "http://a.b/x?y", None],
)
def test_other_protocols_are_refused(run: Any, url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("93.184.215.14", 80))]
    )
    with pytest.raises(TheoryError) as caught:
        run(REF, {"url": url}, mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "uri_invalid")
