"""A processor as a server process: from its folder to its end."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from theory_runtime import server
from theory_runtime.order import own_ref
from theory_runtime.run import Place


def main(
    main_file: Path,
    folder: Path,
    *,
    lifeline: int | None,
    image_digest: str | None,
    image_id: str | None = None,
    listen: tuple[str, int] | None = None,
    only_mode: str | None = None,
    scratch: Sequence[Path] = (),
) -> int:
    """Serve until told to end; secrets, if there are any, lie in `{folder}/secrets`."""
    folder = folder.resolve()
    secrets_dir = folder / "secrets"
    place = Place(
        main_file=main_file,
        ref=own_ref(main_file),
        folder=folder,
        secrets_dir=secrets_dir if secrets_dir.is_dir() else None,
        image_digest=image_digest,
        image_id=image_id,
        only_mode=only_mode,
        scratch=tuple(scratch),
    )
    asyncio.run(server.serve(place, lifeline=lifeline, listen=listen))
    return 0
