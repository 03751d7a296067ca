"""A processor as a server process: from its folder to its end."""

import asyncio
from argparse import Namespace
from pathlib import Path

from theory_runtime import server
from theory_runtime.order import own_ref
from theory_runtime.run import Place


def main(main_file: Path, told: Namespace) -> int:
    """Serve as the command line told, until told to end.

    Secrets, if there are any, lie in `secrets` of the folder that is served.
    """
    folder = told.serve.resolve()
    secrets_dir = folder / "secrets"
    place = Place(
        main_file=main_file,
        ref=own_ref(main_file),
        folder=folder,
        secrets_dir=secrets_dir if secrets_dir.is_dir() else None,
        image_digest=told.image_digest,
        image_id=told.image_id,
        only_mode=told.only_mode,
        concurrency=told.concurrency,
        scratch=tuple(told.scratch),
    )
    asyncio.run(server.serve(place, lifeline=told.lifeline, listen=told.listen))
    return 0
