"""The create request, whole, and what the engine made of it."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.adapters.docker.sandbox import Limits, create_request
from theory_api.adapters.docker.tests.conftest import Bench, Registry
from theory_api.adapters.docker.tests.test_stops import started
from theory_core import TheoryError

DIGEST = "sha256:" + "a" * 64


def request(**changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "image_id": "sha256:" + "b" * 64,
        "image_digest": DIGEST,
        "folder": "/srv/theory-0-c0ffeed/x1",
        "limits": Limits("0.5", "1Gi"),
        "labels": {"theory.home": "c0ffee", "theory.execution": "x1"},
    }
    return create_request(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.scenario(81)
def test_the_whole_create_request_is_this() -> None:
    assert request() == {
        "Image": "sha256:" + "b" * 64,
        "Cmd": ["--serve", "/run/theory", "--image-digest", DIGEST],
        "User": "10001:10001",
        "Env": [],
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": True,
        "StopTimeout": 5,
        "Labels": {"theory.home": "c0ffee", "theory.execution": "x1"},
        "HostConfig": {
            "Binds": ["/srv/theory-0-c0ffeed/x1:/run/theory:rw"],
            "Tmpfs": {
                "/tmp": "rw,noexec,nosuid,nodev,size=268435456,mode=1777",  # noqa: S108
                "/run/theory/work": "rw,noexec,nosuid,nodev,size=536870912,mode=1777",
            },
            "NetworkMode": "none",
            "Privileged": False,
            "ReadonlyRootfs": True,
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "IpcMode": "private",
            "Sysctls": {
                "kernel.shmmni": "0",
                "kernel.msgmni": "0",
                "kernel.sem": "0 0 0 0",
            },
            "ShmSize": 16 << 20,
            "PidMode": "",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "Init": True,
            "Memory": 1 << 30,
            "MemorySwap": 1 << 30,
            "NanoCpus": 500_000_000,
            "PidsLimit": 256,
            "Ulimits": [
                {"Name": "nofile", "Soft": 1024, "Hard": 1024},
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": 1 << 29, "Hard": 1 << 29},
            ],
            "OomKillDisable": False,
            "PublishAllPorts": False,
            "PortBindings": {},
            "Devices": [],
            "VolumesFrom": [],
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {
                "Type": "local",
                "Config": {"max-size": "512k", "max-file": "2", "compress": "false"},
            },
        },
    }


def test_a_container_for_several_runs_is_told_what_to_clean_after_each() -> None:
    assert request(reused=True) == request() | {
        "Cmd": [
            *("--serve", "/run/theory", "--image-digest", DIGEST),
            *("--scratch", "/tmp", "--scratch", "/dev/shm", "--scratch", "/dev/mqueue"),  # noqa: S108
        ]
    }


def test_an_image_in_lane_build_is_told_its_id_and_no_digest() -> None:
    told = ["--serve", "/run/theory", "--image-id", "sha256:" + "b" * 64]
    assert request(image_digest=None)["Cmd"] == told


@pytest.mark.parametrize("limits", [Limits("one", "1Gi"), Limits("1", "1GB"), Limits("1", "")])
def test_limits_that_are_none_are_refused(limits: Limits) -> None:
    with pytest.raises(TheoryError, match="ERR_ADAPTER_INVOCATION"):
        request(limits=limits)


@pytest.mark.scenario(81)
@pytest.mark.timeout(180)
async def test_the_engine_made_what_was_asked_for(bench: Bench) -> None:
    run = await started(bench, {"do": "sleep"})
    container = bench.container()
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == 256 << 20
    assert host["PidsLimit"] == 256
    assert host["Init"] is True
    assert not host["Privileged"]
    assert [mount["Destination"] for mount in container.attrs["Mounts"]] == ["/run/theory"]
    assert "docker.sock" not in str(container.attrs["Mounts"])
    assert container.attrs["Image"].startswith("sha256:")
    assert config["Labels"]["theory.execution"] == "x1"
    assert await bench.adapter.cancel("x1")
    await run


@pytest.mark.scenario(82)
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("mode", "reach", "sockets"),
    [("mock", True, 2), ("real", False, 2), ("real", True, 3)],
)
async def test_a_spec_that_says_egress_has_a_socket_more_and_no_network(
    bench: Bench, mode: str, *, reach: bool, sockets: int
) -> None:
    bench.adapter._snapshots = Registry(network="egress")
    bench.reach = ("http://127.0.0.1:9",) if reach else ()
    run = asyncio.create_task(bench.run({"do": "sleep"}, mode=mode))
    while "Event" not in bench.kinds():
        assert not run.done(), run.result()
        await asyncio.sleep(0.05)
    attrs = bench.container().attrs
    assert (attrs["HostConfig"]["NetworkMode"], attrs["Config"]["NetworkDisabled"]) == (
        "none",
        True,
    )
    assert attrs["NetworkSettings"]["IPAddress"] == ""
    folder = bench.adapter._places.of("x1").folder
    assert len(list(folder.glob("*.sock"))) == sockets
    assert await bench.adapter.cancel("x1")
    await run
