"""The whole way through containers: the example's film, byte for byte that of child processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.run_v1.places import home_name, runtime_root
from theory_api.tests.engine import LEAN, ROOT, connected, left
from theory_core import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILM = ("llm/litellm@1", "media/shotlist@1", "media/frames@1", "media/compose@1")
HOSTILE = Path(__file__).parent / "hostile"
LIAR = ROOT / "api" / "theory_api" / "adapters" / "docker" / "tests" / "liar"
EXAMPLE = ROOT / "docs" / "examples" / "media-generation.yaml"
TEXT = ROOT / "docs" / "examples" / "sample.txt"
HERE = {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
THERE = {"PYTHONHASHSEED": "4242", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}


@dataclass(frozen=True)
class Desk:
    """A home and the command line, under circumstances of its own."""

    folder: Path
    circumstances: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def theory(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(words),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def begun(self, *words: str) -> subprocess.Popen[bytes]:
        """The command line, at work."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            self.command(words), env=self.environment(), stdout=quiet, stderr=quiet
        )

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "theory_api.cli.main", "--home", str(self.home), *words]

    def environment(self) -> dict[str, str]:
        kept = ("PATH", "HOME", "THEORY_CACHE", "DOCKER_HOST")
        scratch = self.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        return inherited | {"TMPDIR": str(scratch)} | dict(self.circumstances)

    def film(self, adapter: str) -> dict[str, Any]:
        """Make the film of the example; what it left, by what cannot differ."""
        document = json.loads(json.dumps(_example(), sort_keys=True))
        for step in document["transitions"].values():
            step["adapter"] = adapter
        self.folder.mkdir(parents=True, exist_ok=True)
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps(document), encoding="utf-8")
        self.theory("plan", "apply", str(plan), "--attach", f"text={TEXT}", "--json")
        export = self.theory("ledger", "export", "media-generation").encode()
        assert verify(export, laws=True).fault is None
        events = [json.loads(line)["event"] for line in export.splitlines()]
        return {
            "artifacts": {
                output["path"]: output["cid"]
                for event in events
                if event["kind"] == "artifact.produced"
                for output in event["data"]["outputs"]
                if not output["path"].startswith("/artifacts/execution/")
            },
            "envelopes": {
                event["data"]["transition"]: event["data"]["envelope"]
                for event in events
                if event["kind"] == "execution.succeeded"
            },
            "adapters": {
                event["data"]["adapter"] for event in events if event["kind"] == "execution.started"
            },
        }


def _example() -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - here alone

    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    found = connected()
    yield found
    found.close()


@pytest.fixture(scope="module")
def built(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # noqa: ANN401
    """Image ids of the film's processors."""
    assert engine
    desk = Desk(tmp_path_factory.mktemp("built"), HERE)
    told = [desk.theory("image", "build", ref, "--mode", "mock", "--json") for ref in FILM]
    return {fact["ref"]: fact["image_id"] for fact in map(json.loads, told)}


def test_the_same_source_is_the_same_image_wherever_it_is_built(
    built: dict[str, str], tmp_path: Path
) -> None:
    """The layers of requirements are made anew, in another folder, at another time."""
    desk = Desk(tmp_path, THERE)
    base = Path(os.environ.get("THEORY_CACHE") or Path.home() / ".cache" / "theory")
    cache = tmp_path / "cache" / "images"
    cache.mkdir(parents=True)
    for layer in (base / "images").glob("base-*.tar"):
        (cache / layer.name).symlink_to(layer)
    again = Desk(tmp_path, {**desk.circumstances, "THEORY_CACHE": str(cache.parent)})
    told = again.theory("image", "build", "media/frames@1", "--mode", "mock", "--json")
    assert json.loads(told)["image_id"] == built["media/frames@1"]


def test_a_film_of_containers_is_that_of_processes(
    engine: Any,  # noqa: ANN401
    built: dict[str, str],
    tmp_path: Path,
) -> None:
    """Other users, time zones, locales, hash seeds and temporary folders; the same bytes."""
    assert built.keys() == set(FILM)
    processes = Desk(tmp_path / "a", HERE).film("process")
    desk = Desk(tmp_path / "b", THERE)
    containers = desk.film("local")
    assert containers.pop("adapters") == {"local"}
    assert processes.pop("adapters") == {"process"}
    assert len(containers["artifacts"]) > 5
    assert containers == processes
    assert left(engine, home_name(desk.home)) == []


def test_waiting_containers_are_started_used_and_stopped(
    engine: Any,  # noqa: ANN401
    built: dict[str, str],
    tmp_path: Path,
) -> None:
    assert built
    desk = Desk(tmp_path, HERE)
    inputs = ROOT / "docs" / "examples" / "script-inputs.json"
    started = json.loads(desk.theory("local", "start", "llm/litellm@1", "--json"))["started"]
    assert started
    again = json.loads(desk.theory("local", "start", "llm/litellm@1", "--json"))["started"]
    assert again == []
    words = ("run", "--ref", "llm/litellm@1", "--adapter", "local", "--json")
    ran = desk.theory(*words, "--inputs-file", str(inputs), "--attach", f"text={TEXT}")
    assert json.loads(ran)["status"] == "success"
    listed = json.loads(desk.theory("local", "status", "--json"))["containers"]
    assert [one["name"] for one in listed] == started
    assert not any(one["busy"] for one in listed)
    assert set(json.loads(desk.theory("local", "logs", "--json"))["logs"]) == set(started)
    assert json.loads(desk.theory("local", "stop", "--json"))["stopped"] == started
    assert left(engine, home_name(desk.home)) == []


def test_what_is_built_on_the_spot_runs_in_lane_build_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, HERE)
    words = ("run", "--ref", "media/shotlist@1", "--adapter", "local", "--build", "--lane", "main")
    told = desk.theory(*words, "--json", code=1)
    error = json.loads(told)["error"]
    assert error["code"] == "ERR_IMAGE_UNPINNED"
    assert "image not pinned" in error["message"]
    desk.theory(*words[:4], "process", "--build", code=2)


# -- processors that misbehave, all the way through the scheduler -----------------------------

BAD = {
    "fine": "",
    "crash": "ERR_INTERNAL",
    "raise": "ERR_INTERNAL",
    "hang": "ERR_TIMEOUT",
    "burn": "ERR_TIMEOUT",
    "escape": "ERR_OUTPUT_PREFIX",
    "duplicate": "ERR_OUTPUT_DUPLICATE",
}


LIES = {
    "listens": {
        "nonsense": "ERR_WS_PROTOCOL",
        "wrong_seq": "ERR_WS_PROTOCOL",
        "other_id": "ERR_WS_PROTOCOL",
        "extra": "ERR_ADAPTER_INVOCATION",
        "both": "ERR_ADAPTER_INVOCATION",
        "size_text": "ERR_ADAPTER_INVOCATION",
        "outputs_object": "ERR_ADAPTER_INVOCATION",
        "meta_text": "ERR_ADAPTER_INVOCATION",
        "outside": "ERR_OUTPUT_PREFIX",
        "unpinned": "ERR_ADAPTER_INVOCATION",
        "twice": "ERR_ADAPTER_INVOCATION",
        "fork_bomb": "ERR_TIMEOUT ERR_OOM",
        "eat_memory": "ERR_OOM",
        "fill_disk": "ERR_INTERNAL",
        "flood_log": "ERR_INTERNAL",
        "leave": "ERR_INTERNAL",
    },
    "speaks_first": {"early": "ERR_WS_PROTOCOL"},
    "plants_a_link": {"link": "ERR_HEALTH"},
    "socket_is_a_folder": {"folder": "ERR_HEALTH"},
}
"""How the processor that keeps no rule starts, what it does then, and how that ends."""


def world(engine: Any, home: Path) -> dict[str, set[str]]:  # noqa: ANN401
    """All that the engine has, and what a home has in the places that machines share."""
    mine = f"theory-*{home_name(home)}*"
    return {
        "containers": {one.id for one in engine.containers.list(all=True, ignore_removed=True)},
        "volumes": {one.id for one in engine.volumes.list()},
        "networks": {one.name for one in engine.networks.list()},
        "memory": {str(one) for one in Path("/dev/shm").glob(mine)},  # noqa: S108 - looked at
        "sockets": {str(one) for one in Path("/tmp").glob(mine)},  # noqa: S108 - looked at
    }


def establish(base: Path, name: str, sources: Path, spec: str) -> dict[str, str]:
    """Places in which a processor of the tests is one of the registry's, and has its image."""
    shutil.copytree(ROOT / "registry", base / "registry", dirs_exist_ok=True)
    ns = base / "registry" / "processors" / "test" / name
    ns.mkdir(parents=True)
    (ns / "1.yaml").write_text(spec, encoding="utf-8")
    home = base / "processors" / "test" / name / "1"
    home.mkdir(parents=True)
    for file in sources.glob("*.py"):
        shutil.copy(file, home / file.name)
    shutil.copy(LEAN, home / "requirements.txt")
    return {
        "THEORY_REGISTRY": str(base / "registry"),
        "THEORY_PROCESSORS": str(base / "processors"),
    }


@pytest.fixture(scope="module")
def hostile(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # noqa: ANN401
    """Places in which the hostile processor of the tests is one of the registry's."""
    assert engine
    base = tmp_path_factory.mktemp("hostile")
    spec = (HOSTILE / "spec.yaml").read_text(encoding="utf-8")
    places = establish(base, "hostile", HOSTILE, spec)
    Desk(base, HERE | places).theory("image", "build", "test/hostile@1", "--mode", "mock")
    return places


@pytest.mark.scenario(80, 84)
def test_every_misdeed_ends_in_a_settled_budget_and_an_empty_engine(
    engine: Any,  # noqa: ANN401
    hostile: dict[str, str],
    tmp_path: Path,
) -> None:
    """The laws hold that no hold is left at a plan's end, and no execution without its end."""
    desk = Desk(tmp_path, HERE | hostile)
    before = world(engine, desk.home)
    for how, expected in BAD.items():
        words = ("run", "--ref", "test/hostile@1", "--adapter", "local", "--json")
        inputs = json.dumps({"how": how})
        told = desk.theory(
            *words,
            "--execution-id",
            how,
            "--inputs-json",
            inputs,
            "--timeout",
            "2",
            code=1 if expected else 0,
        )
        assert json.loads(told).get("error", {}).get("code", "") == expected, how
        assert "canary" not in told
        export = desk.theory("ledger", "export", f"run-{how}").encode()
        assert verify(export, laws=True).fault is None
        kinds = [json.loads(line)["event"]["kind"] for line in export.splitlines()]
        assert kinds.count("budget.reserved") == kinds.count("budget.settled") > 0
    assert not runtime_root(desk.home, "d").exists()
    assert world(engine, desk.home) == before


@pytest.mark.scenario(55, 80, 84, 87)
@pytest.mark.parametrize("start", LIES)
def test_every_lie_ends_in_one_end_and_a_settled_budget_with_nothing_left(
    engine: Any,  # noqa: ANN401
    tmp_path: Path,
    start: str,
) -> None:
    """A processor without the runtime: what it says is wrong, what it does is worse."""
    spec = (HOSTILE / "spec.yaml").read_text(encoding="utf-8").replace("hostile", "liar")
    places = establish(tmp_path / "base", "liar", LIAR, spec.replace("512Mi", "256Mi"))
    home = tmp_path / "base" / "processors" / "test" / "liar" / "1"
    (home / "start.txt").write_text(start, encoding="ascii")
    desk = Desk(tmp_path, HERE | places | {"THEORY_HEALTH_S": "5"})
    desk.theory("image", "build", "test/liar@1", "--mode", "mock")
    before = world(engine, desk.home)
    for how, expected in LIES[start].items():
        name = how.replace("_", "-")
        words = ("run", "--ref", "test/liar@1", "--adapter", "local", "--json", "--timeout", "5")
        inputs = json.dumps({"how": how})
        told = desk.theory(*words, "--execution-id", name, "--inputs-json", inputs, code=1)
        assert json.loads(told)["error"]["code"] in expected.split(), told
        assert "canary" not in told
        export = desk.theory("ledger", "export", f"run-{name}")
        assert "canary" not in export
        assert verify(export.encode(), laws=True).fault is None
        events = [json.loads(line)["event"] for line in export.splitlines()]
        assert events[-1]["kind"] == "plan.failed"
        kinds = [event["kind"] for event in events]
        ends = kinds.count("execution.failed") + kinds.count("execution.succeeded")
        started = kinds.count("execution.started")
        assert started == ends == kinds.count("budget.reserved") == kinds.count("budget.settled")
        assert started > 0
        shown = json.loads(desk.theory("plan", "show", f"run-{name}", "--json"))
        assert {line["reserved"] for line in shown["budget"]} == {0}
    assert world(engine, desk.home) == before


@pytest.mark.scenario(1, 84)
def test_a_killed_scheduler_leaves_no_container_behind_its_successor(
    engine: Any,  # noqa: ANN401
    hostile: dict[str, str],
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, HERE | hostile)
    words = ("run", "--ref", "test/hostile@1", "--adapter", "local", "--json")
    asked = (*words, "--execution-id", "x1", "--inputs-json", '{"how":"fine","seconds":4}')
    doomed = desk.begun(*asked)
    until = time.monotonic() + 60
    while not any("running" in one for one in standing(engine, desk.home)):
        assert doomed.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    doomed.kill()
    doomed.wait()
    told = desk.theory(*asked)
    assert json.loads(told)["status"] == "success"
    export = desk.theory("ledger", "export", "run-x1").encode()
    assert verify(export, laws=True).fault is None
    kinds = [json.loads(line)["event"]["kind"] for line in export.splitlines()]
    assert kinds.count("execution.orphaned") == 1
    assert kinds.count("execution.started") == 2
    assert left(engine, home_name(desk.home)) == []


def standing(engine: Any, home: Path) -> list[str]:  # noqa: ANN401
    """How the containers of a home stand."""
    wanted = {"label": f"theory.home={home_name(home)}"}
    found = engine.containers.list(all=True, filters=wanted, ignore_removed=True)
    return [str(container.status) for container in found]
