"""Draw one picture for each shot: its sentence, wrapped and legible, on the shot's colours."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from theory_core import TheoryError, canonicalize, digest, loads_strict
from theory_runtime import Config, OutputItem, ProcessorResult

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

NAME: Final = "frames"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.frames.v1"
SHOTLIST_SCHEMA: Final = "theory.shotlist.v1"
MAX_SHOTLIST_BYTES: Final = 1024 * 1024
MAX_SHOTS: Final = 60
MAX_SENTENCE_CHARS: Final = 400
COMPRESS_LEVEL: Final = 6
SMALLEST_PX: Final = 8
"""No sentence is set smaller; one that needs it is refused."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels: left, top, right, bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a picture, from its size alone."""

    width: int
    height: int

    @property
    def unit(self) -> int:
        """A 36th of the shorter side: the grid of all distances."""
        return max(4, min(self.width, self.height) // 36)

    @property
    def sentence(self) -> Box:
        """The margins that no letter of the sentence crosses."""
        unit = self.unit
        return Box(5 * unit, 7 * unit, self.width - 4 * unit, self.height - 6 * unit)


@dataclass(frozen=True, slots=True)
class Setting:
    """A sentence set in lines of one size."""

    lines: tuple[str, ...]
    size_px: int
    line_px: int


class Faces:
    """Noto Sans in two weights, by size; it covers Latin, Greek and Cyrillic."""

    def __init__(self) -> None:
        from pymupdf_fonts import (  # type: ignore[import-untyped]  # noqa: PLC0415 - 1 MB of font
            NotoSans_Bold,
            NotoSans_Regular,
        )

        self._data = {"bold": NotoSans_Bold.fontbuffer, "regular": NotoSans_Regular.fontbuffer}
        self._made: dict[tuple[str, int], FreeTypeFont] = {}

    def at(self, weight: str, size_px: int) -> FreeTypeFont:
        """The face of a weight at a size, laid out without host libraries."""
        from PIL import ImageFont  # noqa: PLC0415 - a heavy import

        if (weight, size_px) not in self._made:
            self._made[weight, size_px] = ImageFont.truetype(
                io.BytesIO(self._data[weight]), size_px, layout_engine=ImageFont.Layout.BASIC
            )
        return self._made[weight, size_px]

    def lacks(self, char: str) -> bool:
        """Whether the face would draw its box for missing glyphs."""
        face = self.at("bold", 32)
        drawn, missing = face.getmask(char), face.getmask("\uffff")
        return drawn.size == missing.size and bytes(drawn) == bytes(missing)


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `media/frames@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        shotlist = read_shotlist(params.get("shotlist"))
        layout = Layout(shotlist["width"], shotlist["height"])
        faces = Faces()
        shots = shotlist["shots"]
        outputs: list[OutputItem] = []
        frames: list[dict[str, Any]] = []
        for shot in shots:
            body = encode(draw(shotlist, shot, layout, faces))
            path = f"outputs/frames/{shot['id']}.png"
            outputs.append(OutputItem(path, body, "image/png"))
            frames.append(_entry(shot, path, body, faces))
            done = 1000 * (shot["index"] + 1) // len(shots)
            config.progress("Event", {"phase": "draw", "progress": done})
        manifest = {
            "schema": SCHEMA,
            "source": shotlist["source"],
            "width": layout.width,
            "height": layout.height,
            "frames": frames,
        }
        outputs.append(
            OutputItem("outputs/frames.json", canonicalize(manifest), "application/json")
        )
        return ProcessorResult(outputs=outputs, usage={}, processor_info=_info())

    return run


def _info() -> str:
    import PIL  # noqa: PLC0415 - a heavy import

    return f"{NAME} {VERSION} (pillow {PIL.__version__})"


def _entry(shot: Mapping[str, Any], path: str, body: bytes, faces: Faces) -> dict[str, Any]:
    missing = sorted({char for char in shot["sentence"] if faces.lacks(char)})
    return {
        "id": shot["id"],
        "path": path,
        "cid": digest(body),
        "size_bytes": len(body),
        "missing_glyphs": [f"U+{ord(char):04X}" for char in missing],
    }


def read_shotlist(value: object) -> dict[str, Any]:
    """The shot list in the artifact that `value` names.

    Raises `ERR_INPUTS` with `detail.reason`: `shotlist_missing`, `shotlist_too_large`,
    `shotlist_invalid`; JSON that is not strict keeps the reason of the parser.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("local_path"), str):
        raise _refused("shotlist_missing")
    with Path(value["local_path"]).open("rb") as file:
        raw = file.read(MAX_SHOTLIST_BYTES + 1)
    if len(raw) > MAX_SHOTLIST_BYTES:
        raise _refused("shotlist_too_large")
    try:
        shotlist = loads_strict(raw)
    except TheoryError as error:
        raise _refused(error.code) from error
    if not isinstance(shotlist, dict) or shotlist.get("schema") != SHOTLIST_SCHEMA:
        raise _refused("shotlist_invalid")
    sizes = (shotlist.get("width"), shotlist.get("height"))
    shots = shotlist.get("shots")
    if not all(type(size) is int and 160 <= size <= 4096 for size in sizes):  # noqa: PLR2004
        raise _refused("shotlist_invalid")
    if not isinstance(shots, list) or not 1 <= len(shots) <= MAX_SHOTS:
        raise _refused("shotlist_invalid")
    if not all(_is_shot(shot, index) for index, shot in enumerate(shots)):
        raise _refused("shotlist_invalid")
    return shotlist


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _is_shot(shot: object, index: int) -> bool:
    return (
        isinstance(shot, Mapping)
        and shot.get("id") == f"shot-{index:03d}"
        and shot.get("index") == index
        and isinstance(shot.get("sentence"), str)
        and bool(shot["sentence"].strip())
        and len(shot["sentence"]) <= MAX_SENTENCE_CHARS
        and isinstance(shot.get("palette"), Mapping)
        and all(_is_colour(shot["palette"].get(name)) for name in ("from", "to", "accent", "ink"))
    )


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == len("#rrggbb")
        and value[0] == "#"
        and all(char in "0123456789abcdef" for char in value[1:])
    )


def encode(picture: Image) -> bytes:
    """PNG bytes that depend on the pixels alone."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, optimize=False)
    return buffer.getvalue()


# Drawing


def draw(
    shotlist: Mapping[str, Any], shot: Mapping[str, Any], layout: Layout, faces: Faces
) -> Image:
    """The picture of one shot."""
    from PIL import ImageDraw  # noqa: PLC0415 - a heavy import

    colours = shot["palette"]
    picture = _background(layout, colours)
    pen = ImageDraw.Draw(picture)
    unit, box = layout.unit, layout.sentence
    setting = fit(shot["sentence"], box, faces)
    height = setting.line_px * len(setting.lines)
    top = box.top + (box.bottom - box.top - height) // 2
    bar = (box.left - 2 * unit, top, box.left - 2 * unit + max(2, unit // 3), top + height)
    pen.rectangle(bar, fill=colours["accent"])
    face = faces.at("bold", setting.size_px)
    for number, line in enumerate(setting.lines):
        pen.text((box.left, top + number * setting.line_px), line, fill=colours["ink"], font=face)
    _captions(pen, shotlist, shot, layout, faces)
    _progress(pen, layout, (shot["index"] + 1, len(shotlist["shots"])), colours)
    return picture


def _background(layout: Layout, colours: Mapping[str, str]) -> Image:
    """A gradient from top to bottom, and two faint discs that the picture's edge cuts."""
    from PIL import Image, ImageColor, ImageDraw  # noqa: PLC0415 - a heavy import

    size = (layout.width, layout.height)
    ramp = Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)
    first, last = (Image.new("RGB", size, colours[name]) for name in ("from", "to"))
    picture = Image.composite(last, first, ramp)
    unit = layout.unit
    veil = Image.new("L", size, 0)
    pen = ImageDraw.Draw(veil)
    for radius, (x, y) in ((13, (34, 3)), (8, (27, 11))):
        centre = (layout.width * x // 36, layout.height * y // 36)
        corner = (centre[0] - radius * unit, centre[1] - radius * unit)
        pen.ellipse((*corner, corner[0] + 2 * radius * unit, corner[1] + 2 * radius * unit), 14)
    accent = Image.new("RGB", size, ImageColor.getrgb(colours["accent"])[:3])
    return Image.composite(accent, picture, veil)


def _captions(
    pen: Any,  # noqa: ANN401 - a Pillow drawing context
    shotlist: Mapping[str, Any],
    shot: Mapping[str, Any],
    layout: Layout,
    faces: Faces,
) -> None:
    """Title and number above the sentence; below it, which text the film was made of."""
    unit, colours = layout.unit, shot["palette"]
    face = faces.at("regular", max(SMALLEST_PX, unit * 5 // 4))
    number = f"{shot['index'] + 1:02d} / {len(shotlist['shots']):02d}"
    left, right, top = 3 * unit, layout.width - 3 * unit, 5 * unit // 2
    pen.text((right, top), number, fill=colours["accent"], font=face, anchor="ra")
    room = right - left - 2 * unit - int(face.getlength(number))
    pen.text((left, top), elide(shotlist["title"], room, face), fill=colours["ink"], font=face)
    small = faces.at("regular", max(SMALLEST_PX, unit * 4 // 5))
    source = elide(shotlist["source"][:11], room, small)
    spot = (right, layout.height - 3 * unit)
    pen.text(spot, source, fill=colours["accent"], font=small, anchor="rs")


def _progress(
    pen: Any,  # noqa: ANN401 - a Pillow drawing context
    layout: Layout,
    done: tuple[int, int],
    colours: Mapping[str, str],
) -> None:
    """A bar along the lower edge: how far the film is at the end of this shot."""
    unit = layout.unit
    top, bottom = layout.height - 2 * unit, layout.height - 2 * unit + max(2, unit // 3)
    left, right = 3 * unit, layout.width - 3 * unit
    reached = left + (right - left) * done[0] // done[1]
    pen.rectangle((left, top, right, bottom), fill=colours["from"])
    pen.rectangle((left, top, reached, bottom), fill=colours["accent"])


# Setting text


def fit(sentence: str, box: Box, faces: Faces) -> Setting:
    """`sentence` at the largest size at which all its lines stay inside `box`.

    Raises `ERR_INPUTS` with `detail.reason` `sentence_too_long` if even the smallest is too large.
    """
    width, height = box.right - box.left, box.bottom - box.top
    size = max(SMALLEST_PX, height // 5)
    while size >= SMALLEST_PX:
        face = faces.at("bold", size)
        line_px = size * 27 // 20
        most = height // line_px
        lines = tuple(islice(wrap(sentence, width, face), most + 1))
        if len(lines) <= most:
            return Setting(_balance(sentence, lines, width, face), size, line_px)
        size -= max(1, size // 16)
    raise _refused("sentence_too_long")


def _balance(
    sentence: str, lines: tuple[str, ...], width: int, face: FreeTypeFont
) -> tuple[str, ...]:
    """The same number of lines in the narrowest measure, so that none is left almost empty."""
    narrow, wide = 0, width
    while wide - narrow > 1:
        middle = (narrow + wide) // 2
        tried = tuple(islice(wrap(sentence, middle, face), len(lines) + 1))
        if len(tried) == len(lines) and all(face.getlength(line) <= middle for line in tried):
            lines, wide = tried, middle
        else:
            narrow = middle
    return lines


def wrap(sentence: str, width: int, face: FreeTypeFont) -> Iterator[str]:
    """Lines no wider than `width` pixels, broken at spaces, else between characters."""
    line = ""
    for word in sentence.split():
        for piece, glue in _pieces(word, width, face):
            longer = f"{line}{glue if line else ''}{piece}"
            if line and face.getlength(longer) > width:
                yield line
                line = piece
            else:
                line = longer
    if line:
        yield line


def _pieces(word: str, width: int, face: FreeTypeFont) -> Iterator[tuple[str, str]]:
    """A word in unbreakable pieces, each with what joins it to the piece before."""
    if face.getlength(word) <= width and not any(_is_wide(char) for char in word):
        yield word, " "
        return
    glue = " "
    for cluster in _clusters(word):
        yield cluster, glue
        glue = ""


def _clusters(word: str) -> Iterator[str]:
    """Characters with the combining marks that follow them."""
    cluster = ""
    for char in word:
        if cluster and not unicodedata.combining(char):
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def elide(text: str, width: int, face: FreeTypeFont) -> str:
    """As much of `text` as fits into `width` pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
