"""Arguments that another thread changes while the core reads them."""

import itertools
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import theory_core
from theory_core import Chain, Hasher, TheoryError

EVENT = {
    "v": "theory.event.v1",
    "plan": "/world/acme/p1",
    "seq": 1,
    "at": "2026-11-21T04:25:00.000000Z",
    "kind": "plan.paused",
    "data": {},
}
DOORS: list[Callable[[Any], object]] = [
    theory_core.inputs_hash,
    theory_core.validate_envelope,
    lambda event: theory_core.event_hash(None, event),
    lambda event: Chain().append([event]),
    lambda event: theory_core.encode_frame("Token", event, seq=1),
]


def test_buffers_that_others_write_meanwhile_give_a_digest() -> None:
    buffer = bytearray(1 << 20)
    stop = threading.Event()

    def scribble() -> None:
        while not stop.is_set():
            buffer[::4096] = b"\x01" * 256
            buffer[::4096] = b"\x02" * 256

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for _ in range(50):
            assert theory_core.digest(buffer).startswith("b3:")
            hasher = Hasher()
            hasher.update(memoryview(buffer))
            assert not theory_core.verify(buffer).ok
    finally:
        stop.set()
        thread.join()


@pytest.mark.scenario(44)
def test_containers_that_others_change_meanwhile_give_an_answer_or_the_one_exception() -> None:
    event: dict[str, Any] = EVENT | {"data": {"list": [], "dict": {}}}
    outputs: list[Any] = []
    stop = threading.Event()

    def change() -> None:
        for count in itertools.count():
            event["data"]["dict"][f"k{count % 97}"] = [count]
            event["data"]["list"].append(count)
            outputs.append({"path": "/artifacts/a/outputs/x"})
            if count % 61 == 0:
                event["data"]["list"].clear()
                event["data"]["dict"].clear()
                outputs.clear()
            if stop.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(1_000):
            for door in DOORS:
                with suppress(TheoryError):
                    door(event)
            with suppress(TheoryError):
                theory_core.success_envelope(
                    "x" + "1" * 32, outputs, write_prefix="/artifacts/a/", env_fingerprint="cpu:1"
                )
            with suppress(TheoryError):
                Chain().append(outputs)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.scenario(16)
def test_a_long_text_lets_other_threads_run_while_it_is_read() -> None:
    text = b"[" + b"[]," * 1_000_000 + b"0]"
    ticks: list[int] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks.append(len(ticks))

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        before = len(ticks)
        theory_core.loads_strict(text)
        during = len(ticks) - before
    finally:
        stop.set()
        thread.join()
    assert during > 2
