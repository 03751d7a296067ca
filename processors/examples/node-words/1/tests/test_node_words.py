"""The example's own JSON and digests agree with the vectors that ours are held to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from theory_core import canonicalize, digest

HERE = Path(__file__).resolve().parents[1]


def ask(program: str, data: object) -> Any:  # noqa: ANN401
    """What a module program of Node makes of some JSON on its stdin."""
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("Node is not installed: .ci/run installs it")
        pytest.skip("Node is not installed: the second runtime was not examined")
    head = (
        f'import {{ digest }} from "{HERE}/blake3.mjs";'
        f'import {{ canonical, parse }} from "{HERE}/json.mjs";'
        'import { readFileSync } from "node:fs";'
        "const data = JSON.parse(readFileSync(0, 'utf8'));"
        "const tell = (value) => process.stdout.write(JSON.stringify(value));"
    )
    done = subprocess.run(
        [node, "--input-type=module", "-e", head + program],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_its_digests_are_those_of_the_core() -> None:
    sizes = [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4097, 8193, 31744, 102400]
    bodies = [bytes(place % 251 for place in range(size)) for size in sizes]
    program = "tell(data.map((hex) => digest(Buffer.from(hex, 'hex'))));"
    assert ask(program, [body.hex() for body in bodies]) == [digest(body) for body in bodies]


def test_its_canonical_json_is_that_of_the_core() -> None:
    values: list[Any] = [
        None,
        {"b": [1, 2.5, 1e21, 1e-7, -0.0, True], "a": {"€": "\u2028", "\r": "\n", "1": "ö"}},
        {"\U0001f600": 1, "\ufb33": 2, "\u20ac": 3, "z": ""},
        ["\u0000\u001f\u007f", '\\/"', 9007199254740991],
    ]
    program = "tell(data.map((value) => canonical(value)));"
    assert ask(program, values) == [canonicalize(value).decode() for value in values]


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', "[01]", '"\\ud800"', "[1,]", "[1e999]", "NaN"]
)
def test_it_refuses_what_is_not_strict_json(text: str) -> None:
    program = "try { parse(data); tell('taken'); } catch { tell('refused'); }"
    assert ask(program, text) == "refused"
