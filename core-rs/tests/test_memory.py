"""What `loads_strict` holds beside the objects that it makes, seen by the system."""

import subprocess
import sys
from pathlib import Path

import pytest

BODY_BYTES = 8 << 20

MEASURE = """
import sys
from theory_core import loads_strict

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))

text = sys.stdin.buffer.read()
text = text.decode() if sys.argv[1] == "str" else text
loads_strict(text[:1] + text[-1:])
open("/proc/self/clear_refs", "w").write("5")
value = loads_strict(text)
print(status("VmHWM") - status("VmRSS"))
"""


def dense(element: str) -> str:
    return "[" + ",".join([element] * (BODY_BYTES // (len(element) + 1))) + "]"


def string(piece: str) -> str:
    return '"' + piece * (BODY_BYTES // len(piece.encode())) + '"'


TEXTS = {
    "integers": dense("7"),
    "doubles": dense("0.1"),
    "nested arrays": dense("[" * 250 + "]" * 250),
    "empty objects": dense("{}"),
    "objects": dense('{"b":1,"a":"x"}'),
    "strings": dense('"ab"'),
    "a string": string("x"),
    "a string beyond ASCII": string("é"),
    "a string of escapes": string("\\n"),
    "a document": dense('{"seq": 7, "data": {"note": "caf\\u00e9\\n", "ratio": 0.25, "ok": true}}'),
}


@pytest.mark.scenario(41)
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells its peaks")
@pytest.mark.parametrize("kind", ["bytes", "str"])
@pytest.mark.parametrize("name", TEXTS)
def test_beside_its_objects_a_reader_holds_at_most_four_times_the_text(
    name: str, kind: str
) -> None:
    text = TEXTS[name].encode()
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, kind], input=text, capture_output=True, check=True
    )
    assert int(answer.stdout) <= 4 * len(text)
