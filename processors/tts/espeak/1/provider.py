"""Speak a text with eSpeak NG: sound in pieces while it is made, then as a WAV file."""

from __future__ import annotations

import ctypes
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from theory_core import TheoryError
from theory_runtime import Config, OutputItem, ProcessorResult

NAME: Final = "espeak"
VERSION: Final = "1.0.0"
STREAM: Final = "/streams/effectors/mouth/audio"
RATE_HZ: Final = 22050
"""Samples a second, one channel, 16 bits with the low byte first."""
PIECE_MIME: Final = f"audio/x-s16le; rate={RATE_HZ}; channels=1"
PIECE_MS: Final = 100
SAMPLE_BYTES: Final = 2
MAX_TEXT_BYTES: Final = 64 * 1024
MAX_SPEECH_MS: Final = 30 * 60 * 1000
DEFAULT_VOICE: Final = "en-gb"
DEFAULT_WORDS_PER_MINUTE: Final = 160
DEFAULT_PITCH: Final = 50

_VOICE: Final = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}")
_SYNCHRONOUS: Final = 2
_DO_NOT_EXIT: Final = 0x8000
_UTF8: Final = 1
"""Text as it is: neither SSML nor phonemes in brackets mean anything."""
_CHARACTER: Final = 1
_WORDS, _PITCH = 1, 3
_GO_ON, _STOP = 0, 1

_Callback: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Voice(ctypes.Structure):
    """A voice as the library lists it."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


@dataclass(frozen=True, slots=True)
class Manner:
    """How it is said."""

    voice: str
    words_per_minute: int
    pitch: int


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `tts/espeak@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        text = read_text(params.get("text"))
        manner = Manner(
            params.get("voice", DEFAULT_VOICE),
            params.get("words_per_minute", DEFAULT_WORDS_PER_MINUTE),
            params.get("pitch", DEFAULT_PITCH),
        )
        if not isinstance(manner.voice, str) or not _VOICE.fullmatch(manner.voice):
            raise _refused("voice_unknown")
        target = Path(config.work_dir) / "speech.wav"
        engine = Engine()
        with target.open("wb") as file:
            file.write(wav_head(0))
            total = 0

            def take(index: int, piece: bytes) -> None:
                nonlocal total
                total += len(piece)
                if total // SAMPLE_BYTES * 1000 // RATE_HZ > MAX_SPEECH_MS:
                    raise _refused("speech_too_long")
                file.write(piece)
                content = {"stream": STREAM, "index": index, "mime": PIECE_MIME, "data": piece}
                config.progress("Frame", content)

            engine.speak(text, manner, take)
            file.seek(0)
            file.write(wav_head(total))
        if total == 0:
            raise _refused("text_empty")
        return ProcessorResult(
            outputs=[OutputItem("outputs/speech.wav", target, "audio/wav")],
            usage={},
            processor_info=f"{NAME} {VERSION} (espeak-ng {engine.version})",
        )

    return run


def read_text(value: object) -> str:
    """What is to be said: `value` itself (a string) or the artifact that it names, in UTF-8.

    Raises `ERR_INPUTS` with `detail.reason`: `text_missing`, `text_too_large`, `text_not_utf8`,
    `text_empty`.
    """
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, Mapping) and isinstance(value.get("local_path"), str):
        with Path(value["local_path"]).open("rb") as file:
            raw = file.read(MAX_TEXT_BYTES + 1)
    else:
        raise _refused("text_missing")
    if len(raw) > MAX_TEXT_BYTES:
        raise _refused("text_too_large")
    try:
        text = unicodedata.normalize("NFC", raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _refused("text_not_utf8") from error
    kept = (char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C")
    tidy = "".join(kept).strip()
    if not tidy:
        raise _refused("text_empty")
    return tidy


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def wav_head(sound_bytes: int) -> bytes:
    """The 44 bytes before the sound of a WAV file: 16-bit PCM, one channel, nothing else."""
    form = (16, 1, 1, RATE_HZ, RATE_HZ * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    return b"".join(
        (
            struct.pack("<4sI4s", b"RIFF", 36 + sound_bytes, b"WAVE"),
            struct.pack("<4sIHHIIHH", b"fmt ", *form),
            struct.pack("<4sI", b"data", sound_bytes),
        )
    )


class Engine:
    """The eSpeak NG of the locked wheel: the same library and voices on every machine.

    Law: one speech a process, as there is one run a worker. The library keeps state from one to
    the next, so only the first one's bytes depend on its text alone.
    Raises `ERR_PROVIDER` with `detail.reason` `espeak_missing` where the wheel is not installed,
    `espeak_unusable` where it does not load.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader  # type: ignore[import-untyped]  # noqa: PLC0415 - 20 MB

            data: str = espeakng_loader.get_data_path()
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except ImportError as error:
            raise _unusable("espeak_missing") from error
        except (OSError, RuntimeError) as error:
            raise _unusable("espeak_unusable") from error
        start = self._library.espeak_Initialize
        rate = start(_SYNCHRONOUS, PIECE_MS, data.encode(), _DO_NOT_EXIT)
        if rate != RATE_HZ:
            raise _unusable("espeak_unusable")
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.version: str = self._library.espeak_Info(None).decode("ascii", "replace")

    def speak(self, text: str, manner: Manner, take: Callable[[int, bytes], None]) -> None:
        """Say a text; `take` gets each piece of sound, numbered from 0, as soon as it is made.

        Raises what `take` raises, after the engine has stopped; `ERR_INPUTS` `voice_unknown`.
        """
        library = self._library
        self._choose(manner.voice)
        library.espeak_SetParameter(_WORDS, manner.words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, manner.pitch, 0)
        faults: list[BaseException] = []
        count = 0

        def heard(samples: Any, number: int, _events: Any) -> int:  # noqa: ANN401 - C pointers
            nonlocal count
            if not samples or number <= 0:
                return _GO_ON
            try:
                take(count, ctypes.string_at(samples, number * SAMPLE_BYTES))
            except BaseException as fault:  # noqa: BLE001 - C cannot raise it: raised again below
                faults.append(fault)
                return _STOP
            count += 1
            return _GO_ON

        callback = _Callback(heard)
        library.espeak_SetSynthCallback(callback)
        said = text.encode()
        done = library.espeak_Synth(
            said, ctypes.c_size_t(len(said) + 1), 0, _CHARACTER, 0, _UTF8, None, None
        )
        library.espeak_Synchronize()
        if faults:
            raise faults[0]
        if done != 0:
            raise _unusable("espeak_failed")

    def _choose(self, language: str) -> None:
        """Take the voice of exactly this language; a file's name is never made of what was asked.

        The engine itself would take a near one for a language that it lacks.
        """
        listed = self._library.espeak_ListVoices
        listed.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        voices, place = listed(None), 0
        while voices[place]:
            voice = voices[place].contents
            # A byte of priority, then the name of the language.
            if voice.languages[1:] == language.encode("ascii"):
                if self._library.espeak_SetVoiceByName(voice.identifier) != 0:
                    raise _unusable("espeak_failed")
                return
            place += 1
        raise _refused("voice_unknown")


def _unusable(reason: str) -> TheoryError:
    return TheoryError("ERR_PROVIDER", "provider call failed", {"reason": reason})
