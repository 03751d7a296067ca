"""The app of one processor as Modal takes it: two named functions of one pinned image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from theory_api.domain.deployment import Deployment, Standing
from theory_api.domain.processor import slug
from theory_core import TheoryError

if TYPE_CHECKING:
    from modal import App, Image, Secret

RUN: Final = "run"
MOCK: Final = "mock"
REAL: Final = "real"
"""The mode of `run`. Law: nothing that must see no secret runs where secrets are."""
FUNCTIONS: Final = (RUN, MOCK)
MARK: Final = "theory-"
"""What the names of our tags begin with."""
BEYOND_S: Final = 60
"""A function may last this much longer than the run in it: its stop, and what it then tells."""
CONNECTIONS: Final = 4
"""Connections that a run may need at once: its client's, a controller's, and lookers-on."""
SPARE: Final = 4
"""Those beside: questions for health, and runs that the server is to refuse by itself."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are inside of the image, and where its server listens."""

    root: str = "/opt/theory"
    """`<ns>/<name>/<v>/main.py` of the processor lies below it."""
    python: str = "/usr/bin/python3"
    host: str = "0.0.0.0"  # noqa: S104 - in its container, behind Modal's door
    ports: dict[str, int] = field(default_factory=lambda: {RUN: 8000, MOCK: 8000})


def build(deployment: Deployment, *, environment: str, layout: Layout | None = None) -> App:
    """The app; nothing is deployed by it.

    Laws: the image is named by its digest; nobody retries but the orchestrator, and the SDK refuses
    any retry of a web function; `mock` has no secret and runs no other mode, nor does `run`, which
    has them, run `mock`; there is one container a function, so that whoever controls a run reaches
    the container that has it.
    """
    import modal  # noqa: PLC0415 - a second of imports, for those who use it

    place = Layout() if layout is None else layout
    app = modal.App(deployment.app, include_source=False, tags=marks(deployment))
    image = modal.Image.from_registry(deployment.image, add_python=None).entrypoint([])
    for function in FUNCTIONS:
        secrets = _secrets(deployment, environment) if function == RUN else []
        _function(app, deployment, image, secrets, function, place)
    return app


def marks(deployment: Deployment) -> dict[str, str]:
    """What is written on an app as Modal's tags: whose it is, and of which processor."""
    path, _, version = deployment.ref.partition("@")
    space, _, name = path.partition("/")
    facts = {"owner": deployment.owner, "ns": space, "name": name, "version": version}
    return {f"{MARK}{fact}": value for fact, value in facts.items()}


def read_marks(app: str, tags: Mapping[str, str]) -> Standing | None:
    """What `marks` wrote on an app; None if it wrote nothing there."""
    try:
        owner, space, name, version = (
            tags[f"{MARK}{fact}"] for fact in ("owner", "ns", "name", "version")
        )
        ref = f"{space}/{name}@{version}"
        slug(ref)
    except (KeyError, TheoryError):
        return None
    return Standing(app=app, ref=ref, owner=owner)


def secret_name(name: str) -> str:
    """What the Modal Secret is called that holds one secret of the registry."""
    return "theory-" + name.lower().replace("_", "-")


def _secrets(deployment: Deployment, environment: str) -> list[Secret]:
    import modal  # noqa: PLC0415 - as above

    return [
        modal.Secret.from_name(
            secret_name(name), environment_name=environment, required_keys=[name]
        )
        for name in deployment.secrets
    ]


def _function(
    app: App,
    deployment: Deployment,
    image: Image,
    secrets: list[Secret],
    function: str,
    layout: Layout,
) -> None:
    import modal  # noqa: PLC0415 - as above

    at_once = deployment.concurrency
    port = layout.ports[function]
    main = f"{layout.root}/{deployment.ref.replace('@', '/')}/main.py"
    command = [layout.python, main, "--image-digest", deployment.image_digest]
    command += ["--listen", f"{layout.host}:{port}"]
    command += ["--only-mode", MOCK if function == MOCK else REAL]
    # Law: inputs are connections, of which a run needs several; runs are counted by their server.
    command += ["--concurrency", str(at_once)]
    served: Any = server(tuple(command), deployment.secrets)
    door = modal.web_server(port, startup_timeout=60, requires_proxy_auth=True)
    many = modal.concurrent(max_inputs=CONNECTIONS * at_once + SPARE)
    cores, memory = deployment.cpu_milli * at_once / 1000, deployment.memory_mib * at_once
    app.function(
        name=function,
        serialized=True,
        image=image,
        secrets=secrets,
        cpu=(cores, cores),
        memory=(memory, memory),
        gpu=f"any:{deployment.gpu}" if deployment.gpu else None,
        timeout=deployment.timeout_s + BEYOND_S,
        max_containers=1,
        restrict_modal_access=True,
        include_source=False,
    )(many(door(served)))


def server(command: tuple[str, ...], secrets: tuple[str, ...]) -> Callable[[], None]:
    """What runs inside of the container: it is sent there as it is, and knows nothing of us.

    Laws: a secret reaches the server as a file of a private folder in memory, never by an
    environment; a container whose server ended ends too, so that the next request gets a new one.
    """

    def serve() -> None:
        import os  # noqa: PLC0415 - what is sent takes no module along
        import subprocess  # noqa: PLC0415 - as above
        import tempfile  # noqa: PLC0415 - as above
        import threading  # noqa: PLC0415 - as above
        from pathlib import Path  # noqa: PLC0415 - as above

        folder = tempfile.mkdtemp(prefix="theory-")
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder
        vault = Path(tempfile.mkdtemp(prefix="theory-", dir=memory))
        # Before it holds anything: nothing secret lies where nothing leads.
        Path(folder, "secrets").symlink_to(vault)
        for name in secrets:
            if os.environ.get(name):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(vault / name, flags, 0o600), "w") as file:
                    file.write(os.environ[name])
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": folder,
            "TMPDIR": folder,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        # Never closed here: its end is the end of this container's own process.
        lifeline, _ = os.pipe()
        process = subprocess.Popen(  # noqa: S603 - the processor of this image
            [*command, "--serve", folder, "--lifeline", str(lifeline)],
            pass_fds=(lifeline,),
            cwd=folder,
            env=environment,
        )

        def follow() -> None:
            os._exit(process.wait() & 0xFF)

        threading.Thread(target=follow, daemon=True).start()

    return serve
