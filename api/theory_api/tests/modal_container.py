"""What happens inside of a container: the function that was sent is unpickled and called."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path


class Nowhere:
    """The control plane's packages are not in the image: whoever needs them here has a fault."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> None:
        if name.partition(".")[0] in {"theory_api", "theory_core", "theory_runtime"}:
            sentence = f"{name} is not in a container"
            raise ModuleNotFoundError(sentence)


def main() -> None:
    sys.meta_path.insert(0, Nowhere())
    from modal._serialization import deserialize  # noqa: PLC0415 - after the finder

    deserialize(Path(sys.argv[1]).read_bytes(), None)()
    signal.pause()


if __name__ == "__main__":
    main()
