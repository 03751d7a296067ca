"""`theory serve`: the HTTP API over one home."""

from __future__ import annotations

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.options import Told, shared, told


@click.command()
@shared
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes any free one.",
)
@told
def serve(given: Told, host: str, port: int) -> int:
    """Serve the HTTP API and go on with every unfinished plan, until SIGTERM or Ctrl-C.

    The key for clients lies in the home's file api-key.
    """
    import asyncio  # noqa: PLC0415 - the server brings its own signals

    from theory_api.asgi import serve as serve_home  # noqa: PLC0415 - a web framework to import

    given.json, as_json = True, given.json
    settings = given.settings()
    given.json = as_json

    def ready(url: str) -> None:
        if as_json:
            tables.as_json({"url": url, "key_file": str(settings.home / "api-key")})
        else:
            click.echo(f"serving {url}  key: {settings.home / 'api-key'}")

    asyncio.run(serve_home(settings, host=host, port=port, on_ready=ready))
    return 0
