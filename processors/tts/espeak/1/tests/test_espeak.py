"""Speech comes in pieces while it is made, and the file is those pieces and a head."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from theory_core import TheoryError

REF = "tts/espeak@1"
TEXT = "Theory runs contained work under plans. Nothing starts without a reservation."


def speak(bench: Any, **params: Any) -> tuple[bytes, list[Any]]:
    ran = bench(REF, {"text": TEXT, **params})
    assert set(ran.outputs) == {"outputs/speech.wav"}
    wav: bytes = ran.outputs["outputs/speech.wav"]
    return wav, ran.frames


def samples(wav: bytes) -> bytes:
    with wave.open(io.BytesIO(wav)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)
        assert reader.getframerate() == 22050
        sound: bytes = reader.readframes(reader.getnframes())
        return sound


def test_the_pieces_are_the_file_in_order(bench: Any) -> None:
    wav, frames = speak(bench)
    assert len(frames) > 10
    assert all(kind == "Frame" for kind, _ in frames)
    assert [piece["index"] for _, piece in frames] == list(range(len(frames)))
    assert {piece["stream"] for _, piece in frames} == {"/streams/effectors/mouth/audio"}
    assert b"".join(piece["data"] for _, piece in frames) == samples(wav)


def test_it_is_sound_and_not_silence_and_lasts_as_its_words_do(bench: Any) -> None:
    sound = samples(speak(bench)[0])
    assert max(sound[1::2]) > 0
    assert 3 < len(sound) / 2 / 22050 < 8


def test_each_piece_comes_while_the_next_is_still_to_be_made(providers: Any) -> None:
    code = """if True:
        import runpy, sys
        provider = runpy.run_path(sys.argv[1], run_name="provider")

        def take(index, piece):
            print(index, len(piece))
            raise SystemExit(3)

        provider["Engine"]().speak(sys.argv[2], provider["Manner"]("en-gb", 160, 50), take)
    """
    command = [sys.executable, "-c", code, providers(REF).__file__, TEXT * 100]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "0 4412\n")


def test_the_same_text_is_the_same_bytes_in_both_modes(bench: Any) -> None:
    wav = speak(bench)[0]
    assert speak(bench)[0] == wav
    assert bench(REF, {"text": TEXT}, mode="real").outputs["outputs/speech.wav"] == wav


def test_it_is_said_in_the_manner_that_is_asked(bench: Any) -> None:
    plain = speak(bench)[0]
    assert len(speak(bench, words_per_minute=320)[0]) < len(plain)
    assert speak(bench, pitch=90)[0] != plain


def test_markup_and_phonemes_are_read_out_and_not_obeyed(bench: Any) -> None:
    plain = len(speak(bench, text="hello")[0])
    marked = speak(bench, text="<break time='600s'/><audio src='/etc/passwd'/>hello")[0]
    assert plain < len(marked) < 60 * 22050
    assert speak(bench, text="[[h@l'oU]]")[0] != speak(bench, text="hello")[0]


def test_an_artifact_is_spoken_as_its_text_is(bench: Any, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert speak(bench, text={"$file": str(file)})[0] == speak(bench)[0]


@pytest.mark.parametrize(
    ("voice", "text"),
    [("el", "Καλημέρα κόσμε."), ("ru", "Доброе утро."), ("en-us", "1/3 + 2\u00d74 = ?")],
)
def test_other_scripts_are_spoken(bench: Any, voice: str, text: str) -> None:
    assert len(samples(speak(bench, text=text, voice=voice)[0])) > 22050


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"text": None}, "text_missing"),
        ({"text": " \n\x00\x07"}, "text_empty"),
        ({"text": "x" * (64 * 1024 + 1)}, "text_too_large"),
        ({"voice": "xx"}, "voice_unknown"),
        ({"voice": "../../etc/passwd"}, "voice_unknown"),
        ({"voice": "mb-de1"}, "voice_unknown"),
        ({"voice": 7}, "voice_unknown"),
    ],
)
def test_what_cannot_be_said_is_refused(run: Any, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        run(REF, {"text": TEXT, **params})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


def test_bytes_that_are_no_text_are_refused(run: Any, artifact: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"text": artifact("/artifacts/t", b"\xff\xfe")})
    assert caught.value.detail == {"reason": "text_not_utf8"}


def test_speech_without_end_is_stopped(
    providers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = providers(REF)

    class Endless:
        version = "0"

        def speak(self, _text: str, _manner: object, take: Any) -> None:
            for index in itertools.count():
                take(index, bytes(2 * 22050 * 60))

    monkeypatch.setattr(provider, "Engine", Endless)
    config = SimpleNamespace(work_dir=tmp_path, progress=lambda *_: None)
    with pytest.raises(TheoryError) as caught:
        provider.make_runner(config)({"text": TEXT})
    assert caught.value.detail == {"reason": "speech_too_long"}


def test_a_machine_without_it_says_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(TheoryError, match="provider call failed") as caught:
        run(REF, {"text": TEXT})
    assert (caught.value.code, caught.value.detail) == (
        "ERR_PROVIDER",
        {"reason": "espeak_missing"},
    )
