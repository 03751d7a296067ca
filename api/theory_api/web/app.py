"""The web application: controllers, problems, OpenAPI, and the gates in front of them."""

from __future__ import annotations

from typing import cast

from litestar import Litestar
from litestar.di import Provide

from theory_api.web.access import Access
from theory_api.web.artifacts import ArtifactController
from theory_api.web.connection import App
from theory_api.web.doors import Doors
from theory_api.web.events import EventController, Frames
from theory_api.web.executions import ExecutionController
from theory_api.web.gate import Gate
from theory_api.web.health import healthz, readyz
from theory_api.web.openapi import config
from theory_api.web.plans import PlanController
from theory_api.web.problem import handlers
from theory_api.web.watch import WatchController
from theory_api.web.world import WorldController


def create_app(doors: Doors) -> App:
    """The application as a server runs it: access, then the strict gate, then Litestar."""
    return Access(Gate(cast("App", litestar(doors))), key=doors.key)


def litestar(doors: Doors) -> Litestar:
    """Controllers over `doors`, with their OpenAPI document; never served without the gates."""
    frames = Frames()
    return Litestar(
        route_handlers=[
            PlanController,
            EventController,
            ExecutionController,
            WatchController,
            ArtifactController,
            WorldController,
            healthz,
            readyz,
        ],
        dependencies={
            "doors": Provide(lambda: doors, sync_to_thread=False),
            "frames": Provide(lambda: frames, sync_to_thread=False),
        },
        exception_handlers=handlers(),
        openapi_config=config(doors.version),
        logging_config=None,
    )
