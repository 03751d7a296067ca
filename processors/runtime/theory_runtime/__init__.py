"""What every processor starts: `theory_runtime.main(__file__)` beside a `provider.py`.

A provider offers `make_runner(config: Config) -> Callable[[dict], ProcessorResult]`. The runner
gets the run's `params`; each artifact among them, `{path, cid, size_bytes, mime, url}`, also has
`local_path`, a file whose bytes were checked against `cid`. It may raise `TheoryError` with
`ERR_INPUTS`, `ERR_PROVIDER` or `ERR_MISSING_SECRET`; any other exception is `ERR_INTERNAL`.
Source: spec, processors.
"""

from theory_core import TheoryError
from theory_runtime.command import main
from theory_runtime.config import Config
from theory_runtime.result import OutputItem, ProcessorResult
from theory_runtime.vault import secret

__all__ = ["Config", "OutputItem", "ProcessorResult", "TheoryError", "main", "secret"]
