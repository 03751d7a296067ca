"""The processors that ask addresses, in containers: through the one way out that a policy lists."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from theory_api.settings import assets
from theory_api.tests.engine import connected, image
from theory_api.tests.test_containers import HERE, Desk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REFS = ("git/clone@1", "http/check@1")


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{fact}": "a@b" for role in ("AUTHOR", "COMMITTER") for fact in FACTS}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **who}
    done = subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True)
    return done.stdout.decode().strip()


FACTS = ("NAME", "EMAIL")


class Backend(http.server.BaseHTTPRequestHandler):
    """Git's own server program behind HTTP."""

    root: Path

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        command = ["git", "http-backend"]
        done = subprocess.run(command, input=body, env=env, check=True, capture_output=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        stated = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(stated.pop("Status", "200").split()[0]))
        for name, value in stated.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Where a repository is served, and its one commit."""
    root = tmp_path_factory.mktemp("git")
    work = root / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "a.txt").write_text("one\n")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "first")
    commit = git(work, "rev-parse", "HEAD")
    git(root, "clone", "-q", "--bare", str(work), "served.git")
    handler = type("Here", (Backend,), {"root": root})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", commit
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def built() -> None:
    """Images of the processors, as mode real needs them."""
    client: Any = connected()
    for ref in REFS:
        folder = assets("processors") / ref.replace("@", "/")
        image(client, ref, folder, mode="real")
    client.close()


@pytest.fixture
def desk(built: None, served: tuple[str, str], tmp_path: Path) -> Desk:
    """A desk whose policy lists the server."""
    del built
    registry = tmp_path / "registry"
    shutil.copytree(assets("registry"), registry)
    policy = registry / "policies" / "default.yaml"
    listed = f'uri_allow: ["{served[0]}", "http://localhost:{served[0].rpartition(":")[2]}"]'
    policy.write_text(policy.read_text().replace("uri_allow: []", listed))
    return Desk(tmp_path, HERE | {"THEORY_REGISTRY": str(registry)})


def facts(desk: Desk, ref: str, url: str, *, code: int = 0) -> tuple[dict[str, Any], Any]:
    """The envelope of a run in a container, and the facts that it wrote."""
    words = ("run", "--ref", ref, "--adapter", "local", "--mode", "real", "--json")
    name = ref.partition("/")[0]
    told = desk.theory(
        *words, "--execution-id", name, "--inputs-json", json.dumps({"url": url}), code=code
    )
    envelope: dict[str, Any] = json.loads(told)
    for output in envelope.get("outputs", ()):
        if output["path"].endswith("/facts.json"):
            return envelope, json.loads(
                desk.theory("artifact", "get", f"run-{name}", output["path"])
            )
    return envelope, None


@pytest.mark.scenario(82)
def test_a_repository_is_fetched_from_a_container_without_a_network(
    desk: Desk, served: tuple[str, str]
) -> None:
    url, commit = served
    envelope, found = facts(desk, "git/clone@1", f"{url}/served.git")
    assert envelope["status"] == "success", envelope
    assert (found["commit"], found["files"]) == (commit, 1)


@pytest.mark.scenario(82)
def test_an_address_is_checked_from_a_container_without_a_network(
    desk: Desk, served: tuple[str, str]
) -> None:
    url, _ = served
    envelope, found = facts(desk, "http/check@1", f"{url}/served.git/HEAD")
    assert envelope["status"] == "success", envelope
    assert (found["status"], found["fault"]) == (200, None)


@pytest.mark.scenario(82, 98)
def test_a_listed_name_that_leads_inside_costs_the_run_its_code(
    desk: Desk, served: tuple[str, str]
) -> None:
    url = served[0].replace("127.0.0.1", "localhost")
    envelope, _ = facts(desk, "http/check@1", url, code=1)
    assert envelope["error"]["code"] == "ERR_INPUTS"
    assert "address_private" in envelope["error"]["message"]
