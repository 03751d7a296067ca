"""Write a short narration script about a text: extracted from it (mock) or by a model (real)."""

# ruff: noqa: RUF001 - it is about the punctuation of many scripts

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from theory_core import TheoryError, canonicalize, digest
from theory_runtime import Config, OutputItem, ProcessorResult, pinned, secret
from theory_runtime.egress import Spot, locate

NAME: Final = "litellm-script"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.script.v1"
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
MAX_ASKED_CHARS: Final = 24_000
"""The longest text that is sent to a model: what the registry's estimate holds tokens for."""
MAX_LINES: Final = 16
MAX_LINE_CHARS: Final = 160
MAX_TITLE_CHARS: Final = 64
DEFAULT_MAX_CHARS: Final = 1000
DEFAULT_MODEL: Final = "openai/gpt-4o-mini"
DEFAULT_ENDPOINT: Final = "https://api.openai.com/v1"
DEFAULT_MAX_TOKENS: Final = 1500
REQUEST_TIMEOUT_S: Final = 120
MILLION: Final = 1_000_000

PROMPT: Final = """\
You write narration for a short silent film about the text that the user sends.
Answer in the language of the text. The first line is a title of at most eight words.
Every further line is one sentence of narration of at most twenty words, true to the text.
Write at most twelve lines of narration. No numbering, no markup, nothing else."""
"""What the model is told unless `prompt` says otherwise; the registry's `script@1`."""

_CLOSERS: Final = "\"'”’»›)]}」』】"
_WIDE_STOPS: Final = "。！？｡"
_SENTENCE_END: Final = re.compile(
    rf"[{_WIDE_STOPS}]+[{re.escape(_CLOSERS)}]*|[.!?…;؟।]+[{re.escape(_CLOSERS)}]*(?=\s|$)"
)
_CLAUSE_ENDS: Final = ",;:–—،、，；："
_BLOCK_MARK: Final = re.compile(r"^\s*(?:#{1,6}\s+|[-*•+]\s+|\d{1,3}[.)]\s+|>\s?)")
_EMPHASIS: Final = re.compile(r"[*`]+|\b_+|_+\b")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_ABBREVIATIONS: Final = (
    *("approx", "bzw", "ca", "cf", "dr", "e.g", "eg", "etc", "i.e", "jr", "mr", "mrs", "ms"),
    *("prof", "sr", "st", "u.a", "usw", "vs", "z.b", "π.χ", "κ.λπ", "т.д", "т.е", "т.к", "т.п"),
)
"""Words whose full stop ends no sentence."""
_NUMBERED: Final = ("ch", "fig", "no", "nos", "nr", "op", "p", "pp", "vol", "αρ", "рис", "стр")
"""Words whose full stop ends no sentence before a number."""


@dataclass(frozen=True, slots=True)
class Script:
    """A title and the narration, one line for each shot of a film."""

    title: str
    lines: tuple[str, ...]


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner for `config.mode`; `params` are those of the registry's `llm/litellm@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        if params.get("task") != "script":
            raise TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": "task"})
        source = read_text(params.get("text"))
        max_chars = params.get("max_chars", DEFAULT_MAX_CHARS)
        if config.mode == "real":
            script, usage, model = _ask_model(config, source, params, max_chars)
        else:
            script, usage, model = narrate(source, max_chars), {"tokens": 0, "usd_micro": 0}, "mock"
        document = {
            "schema": SCHEMA,
            "title": script.title,
            "source": digest(source.encode()),
            "lines": list(script.lines),
        }
        plain = "\n".join((script.title, "", *script.lines, ""))
        return ProcessorResult(
            outputs=[
                OutputItem("outputs/script.json", canonicalize(document), "application/json"),
                OutputItem("outputs/script.txt", plain.encode(), "text/plain; charset=utf-8"),
            ],
            usage=usage,
            processor_info=f"{NAME} {VERSION} ({model})",
        )

    return run


# Reading


def read_text(value: object) -> str:
    """The text that `value` is (a string) or names (a resolved artifact).

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
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused("text_not_utf8") from error
    if not _tidy(text):
        raise _refused("text_empty")
    return text


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _tidy(text: str) -> str:
    """`text` in NFC, without control and format characters, white space collapsed."""
    kept = (
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", text)
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    return " ".join("".join(kept).split())


# Mode mock: the script is taken out of the text


def narrate(text: str, max_chars: int = DEFAULT_MAX_CHARS) -> Script:
    """A script made of the text's own sentences: the weightiest ones, in their order.

    Law: the same text gives the same script; at most `MAX_LINES` lines of at most
    `MAX_LINE_CHARS` characters, together at most `max_chars`, never none.
    """
    blocks = list(_blocks(text))
    title = ""
    if len(blocks) > 1 and _is_title(blocks[0]):
        title = _tidy(_unmark(blocks[0][0]))
        del blocks[0]
    lines = [line for block in blocks for sentence in _sentences(block) for line in _cut(sentence)]
    if not lines:
        lines = list(_cut(_tidy(text)))
    chosen = _choose(lines, max_chars)
    return Script(_shorten(title or chosen[0]), tuple(chosen))


def _blocks(text: str) -> Iterator[list[str]]:
    """Paragraphs as lists of lines; headings and list items stand alone."""
    block: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if block and (not _tidy(line) or _BLOCK_MARK.match(line) or block[0].startswith("#")):
            yield block
            block = []
        if _tidy(line):
            block.append(line)
    if block:
        yield block


def _is_title(block: list[str]) -> bool:
    first = _tidy(_unmark(block[0]))
    if len(block) > 1 or not first:
        return False
    if _BLOCK_MARK.match(block[0]):
        return block[0].startswith("#")
    return len(first) <= MAX_TITLE_CHARS and first[-1] not in ".!?…;:," + _WIDE_STOPS


def _unmark(line: str) -> str:
    return _BLOCK_MARK.sub("", line, count=1)


def _sentences(block: list[str]) -> Iterator[str]:
    """The sentences of a paragraph; its lines, where nothing ends a sentence."""
    lines = [tidy for line in block if (tidy := _tidy(_unmark(line)))]
    joined = " ".join(lines)
    if len(lines) > 1 and not _SENTENCE_END.search(joined):
        yield from lines
        return
    start = 0
    for match in _SENTENCE_END.finditer(joined):
        if _ends_sentence(joined, match.start(), match.end()):
            yield joined[start : match.end()].strip()
            start = match.end()
    if rest := joined[start:].strip():
        yield rest


def _ends_sentence(text: str, stop: int, end: int) -> bool:
    """Whether the mark at `stop` ends a sentence rather than an abbreviation or a clause."""
    mark = text[stop]
    words = text[max(0, stop - MAX_LINE_CHARS) : stop].split()
    before = words[-1].strip("(\"'“„«[") if words else ""
    after = text[end : end + 2].lstrip()[:1]
    if mark == ";":  # a Greek question mark, once normalised; a semicolon elsewhere
        return any("\u0370" <= char <= "\u03ff" for char in before)
    if mark != "." or text[stop : stop + 2] == "..":
        return True
    if after.islower():
        return False
    if len(before) == 1 and before.isalpha() and before.isupper():
        return False  # an initial
    word = before.casefold()
    return word not in _ABBREVIATIONS and not (word in _NUMBERED and after.isdigit())


def _cut(sentence: str) -> Iterator[str]:
    """`sentence` in pieces of at most `MAX_LINE_CHARS`: at clauses, else spaces, else anywhere."""
    start = 0
    while len(sentence) - start > MAX_LINE_CHARS:
        window = sentence[start : start + MAX_LINE_CHARS + 1]
        clauses = (place + 1 for place, char in enumerate(window[:-1]) if char in _CLAUSE_ENDS)
        at = max(clauses, default=0)
        if at < MAX_LINE_CHARS // 3:
            at = window.rfind(" ")
        if at < MAX_LINE_CHARS // 3:
            at = MAX_LINE_CHARS
            while at > MAX_LINE_CHARS // 2 and unicodedata.combining(window[at]):
                at -= 1
        if piece := window[:at].strip():
            yield piece
        start += at
    if rest := sentence[start:].strip():
        yield rest


def _choose(lines: list[str], max_chars: int) -> list[str]:
    """As many lines as fit, by the weight of their words; the first always, order kept."""
    if len(lines) <= MAX_LINES and sum(map(len, lines)) <= max_chars:
        return lines
    words = [_WORD.findall(line.casefold()) for line in lines]
    counts = Counter(word for line in words for word in set(line))

    def weight(index: int) -> int:
        distinct = set(words[index])
        return 1000 * sum(counts[word] for word in distinct) // (len(words[index]) + 4)

    order = sorted(range(1, len(lines)), key=lambda index: (-weight(index), index))
    chosen, seen, room = [0], {lines[0]}, max_chars - len(lines[0])
    for index in order:
        line = lines[index]
        if len(chosen) < MAX_LINES and len(line) <= room and line not in seen:
            chosen.append(index)
            seen.add(line)
            room -= len(line)
    return [lines[index] for index in sorted(chosen)]


def _shorten(title: str) -> str:
    """At most `MAX_TITLE_CHARS` characters, cut between words where there are any."""
    if len(title) <= MAX_TITLE_CHARS:
        return title.rstrip(".") or title
    head = title[:MAX_TITLE_CHARS]
    return head[: head.rfind(" ") if " " in head[20:] else None].rstrip(" ,;:.–—") + "…"


# Mode real: the script is written by a model


def _ask_model(
    config: Config, source: str, params: Mapping[str, Any], max_chars: int
) -> tuple[Script, dict[str, int], str]:
    """Stream one answer of an OpenAI-compatible endpoint.

    Usage is the provider's own count; where it states none, none is reported. Raises
    `ERR_INPUTS`, `ERR_MISSING_SECRET`, and `ERR_PROVIDER` with the kind of failure as
    `detail.reason`.
    """
    if len(source) > MAX_ASKED_CHARS:
        raise _refused("text_too_long_for_model")
    key = secret("OPENAI_API_KEY")
    endpoint = params.get("endpoint", DEFAULT_ENDPOINT)
    spot = locate(endpoint)
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no price list over the network
    model = params.get("model", DEFAULT_MODEL)
    request = {
        "model": _asked(model),
        "custom_llm_provider": "openai",  # the key is its, whatever the model's name begins with
        "messages": [
            {"role": "system", "content": params.get("prompt", PROMPT)},
            {"role": "user", "content": source},
        ],
        "api_key": key,
        "api_base": endpoint,
        "client": _client(spot, endpoint, key),
        "max_tokens": params.get("max_tokens", DEFAULT_MAX_TOKENS),
        "timeout": REQUEST_TIMEOUT_S,
    }
    pieces: list[str] = []
    stated: list[Any] = []
    with config.asking():
        for text in _stream(request, stated):
            pieces.append(text)
            config.progress("Token", {"text": text})
    return parse_answer("".join(pieces), max_chars), _usage(stated, params.get("price")), model


def _asked(model: str) -> str:
    """The model's name as the endpoint knows it.

    Law: a model that the library does not ask for chat completions is refused; it would be asked
    over connections of the library's own.
    """
    import litellm  # type: ignore[import-not-found]  # noqa: PLC0415 - takes seconds, and only this mode needs it

    name = model.removeprefix("openai/")
    try:
        manner = litellm.get_model_info(name, "openai").get("mode")
    except Exception:  # noqa: BLE001 - a library that raises any type for a name it does not know
        manner = None
    if manner not in {None, "chat"} or name.startswith("responses/"):
        raise _refused("model")
    return name


def _client(spot: Spot, endpoint: str, key: str) -> object:
    """The client that the library asks through: to the address that was checked, and no other."""
    import openai  # type: ignore[import-not-found]  # noqa: PLC0415 - as the library

    wire = pinned.client(spot)
    return openai.OpenAI(api_key=key, base_url=endpoint, http_client=wire, max_retries=0)


def _stream(request: Mapping[str, Any], stated: list[Any]) -> Iterator[str]:
    """The text of one answer as it comes, and at its end what the provider `stated` as usage.

    LiteLLM ends a stream with an estimate of its own where the provider is silent; the chunks as
    they came hold the provider's word alone. Never repeated here: retries are the orchestrator's.
    """
    import litellm  # noqa: PLC0415 - as above

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    try:
        answer = litellm.completion(
            **request,
            stream=True,
            stream_options={"include_usage": True},
            num_retries=0,
            max_retries=0,
        )
        for chunk in answer:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
        counts = (getattr(chunk, "usage", None) for chunk in answer.chunks)
        stated.extend(count for count in counts if count is not None)
    except Exception as error:  # noqa: BLE001 - the one boundary to a library that raises any type
        reason = type(error).__name__
        # Without its cause: what providers say may repeat the text that was sent to them.
        raise TheoryError("ERR_PROVIDER", "provider call failed", {"reason": reason}) from None


def parse_answer(answer: str, max_chars: int = DEFAULT_MAX_CHARS) -> Script:
    """Title and lines out of a model's plain-text answer; `ERR_PROVIDER` if there are none."""
    plain = (_tidy(_EMPHASIS.sub("", _unmark(line))) for line in answer.split("\n"))
    lines = [line for line in plain if line]
    if not lines:
        raise TheoryError("ERR_PROVIDER", "provider call failed", {"reason": "empty_answer"})
    title, body = lines[0], lines[1:] or lines
    pieces = [piece for line in body for piece in _cut(line)]
    return Script(_shorten(title), tuple(_within(pieces, max_chars)))


def _within(lines: Iterable[str], max_chars: int) -> Iterator[str]:
    room = max_chars
    for count, line in enumerate(lines):
        room -= len(line)
        if count and (count >= MAX_LINES or room < 0):
            return
        yield line


def _usage(stated: list[Any], price: Mapping[str, int] | None) -> dict[str, int]:
    """Tokens as the provider counted them, and their price in whole micro-dollars, rounded up."""
    if not stated:
        return {}
    asked, answered = int(stated[-1].prompt_tokens), int(stated[-1].completion_tokens)
    usage = {"tokens": asked + answered}
    if price is not None:
        cost = asked * price["input"] + answered * price["output"]
        usage["usd_micro"] = -(-cost // MILLION)
    return usage
