"""Turn texts into vectors: TF-IDF and a truncated SVD (mock), or a model's embeddings (real)."""

from __future__ import annotations

import http.client
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from theory_core import TheoryError, canonicalize, digest, loads_strict
from theory_runtime import Config, OutputItem, ProcessorResult, secret
from theory_runtime.egress import connection, locate

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float64]]

NAME: Final = "embed"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.vectors.v1"
CORPUS: Final = "theory.corpus.v1"
SCALE: Final = 1_000_000
"""A component is written as the nearest whole number of millionths, halves to even."""
MAX_CORPUS_BYTES: Final = 8 * 1024 * 1024
MAX_TEXTS: Final = 256
MAX_TERMS: Final = 20_000
"""Terms that count; of more, those in the most texts, then in the order of their letters."""
MAX_SWEEPS: Final = 60
NEGLIGIBLE: Final = 1e-12
"""Beside the largest eigenvalue: what is smaller is rounding, not meaning."""
DEFAULT_DIMENSIONS: Final = 64

MAX_ASKED_CHARS: Final = 64_000
"""The longest corpus that is sent to a model: what the registry's estimate holds tokens for."""
DEFAULT_MODEL: Final = "openai/text-embedding-3-small"
DEFAULT_ENDPOINT: Final = "https://api.openai.com/v1"
REQUEST_TIMEOUT_S: Final = 60
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
MAX_MODEL_DIMENSIONS: Final = 4096
MILLION: Final = 1_000_000

_WORD: Final = re.compile(r"[^\W_]+")
_LOGARITHM: Final = Context(prec=34)


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what it is called."""

    name: str
    body: str


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `text/embed@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        texts = read_corpus(params.get("corpus"))
        if config.mode == "real":
            model = params.get("model", DEFAULT_MODEL)
            rows, usage = _ask_model(config, texts, model, params)
        else:
            model, usage = "tfidf-svd", {}
            rows = embed(
                [text.body for text in texts], params.get("dimensions", DEFAULT_DIMENSIONS)
            )
        document = {
            "schema": SCHEMA,
            "model": model,
            "scale": SCALE,
            "dimensions": len(rows[0]),
            "source": digest(canonicalize([[text.name, text.body] for text in texts])),
            "vectors": [
                {"id": text.name, "values": row} for text, row in zip(texts, rows, strict=True)
            ],
        }
        return ProcessorResult(
            outputs=[
                OutputItem("outputs/vectors.json", canonicalize(document), "application/json")
            ],
            usage=usage,
            processor_info=f"{NAME} {VERSION} ({model})",
        )

    return run


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


# Reading


def read_corpus(value: object) -> list[Text]:
    """The texts of a list of `{id, text}`, or of the artifact `{"schema", "documents": […]}`.

    Raises `ERR_INPUTS` with `detail.reason`: `corpus_missing`, `corpus_too_large`,
    `corpus_invalid`, `corpus_ids` (two texts of one name); JSON that is not strict keeps the
    reason of the parser.
    """
    if isinstance(value, Mapping) and isinstance(value.get("local_path"), str):
        with Path(value["local_path"]).open("rb") as file:
            raw = file.read(MAX_CORPUS_BYTES + 1)
        if len(raw) > MAX_CORPUS_BYTES:
            raise _refused("corpus_too_large")
        try:
            document = loads_strict(raw)
        except TheoryError as error:
            raise _refused(error.code) from error
        if not isinstance(document, Mapping) or document.get("schema") != CORPUS:
            raise _refused("corpus_invalid")
        value = document.get("documents")
    if value is None:
        raise _refused("corpus_missing")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TEXTS:
        raise _refused("corpus_invalid")
    if not all(map(_is_text, value)):
        raise _refused("corpus_invalid")
    texts = [Text(entry["id"], entry["text"]) for entry in value]
    if len({text.name for text in texts}) != len(texts):
        raise _refused("corpus_ids")
    return texts


def _is_text(entry: object) -> bool:
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("id"), str)
        and 0 < len(entry["id"]) <= 200  # noqa: PLR2004 - as the registry's schema says
        and isinstance(entry.get("text"), str)
    )


# Mode mock: the corpus explains itself


def embed(texts: Sequence[str], dimensions: int) -> list[list[int]]:
    """A vector for each text, in whole `SCALE`ths: rows of U·S of its TF-IDF matrix, of length 1.

    Law: the same texts give the same numbers on every host. Whatever is added up is added in a
    fixed order or exactly (`fsum`); matrices are changed by element-wise products and sums alone,
    which IEEE 754 fixes to the last bit, and never handed to a BLAS; logarithms are decimal, of 34
    digits; a singular vector's largest component, the first of several, is positive.
    A text without a known term has the zero vector.
    """
    import numpy as np  # noqa: PLC0415 - a heavy import

    rows = weigh(texts)
    values, vectors = eigen(_gram(rows))
    order = sorted(range(len(texts)), key=lambda index: (-values[index], index))
    floor = max(values) * NEGLIGIBLE if len(values) else 0.0
    kept = [index for index in order[:dimensions] if values[index] > max(floor, 0.0)]
    columns = []
    for index in kept:
        column = vectors[index]
        largest = int(np.argmax(np.abs(column)))
        sign = -1.0 if column[largest] < 0 else 1.0
        columns.append(column * (sign * math.sqrt(values[index])))
    return [_unit([float(column[row]) for column in columns]) for row in range(len(texts))]


def weigh(texts: Sequence[str]) -> list[dict[str, float]]:
    """TF-IDF of each text, of length 1: counts times ln((1+n)/(1+df)) + 1."""
    counts = [Counter(terms(text)) for text in texts]
    spread = Counter(term for count in counts for term in count)
    known = sorted(spread, key=lambda term: (-spread[term], term))[:MAX_TERMS]
    rarity = {term: _rarity(len(texts), spread[term]) for term in sorted(known)}
    rows = []
    for count in counts:
        row = {term: count[term] * rarity[term] for term in sorted(count) if term in rarity}
        length = math.sqrt(math.fsum(weight * weight for weight in row.values()))
        rows.append({term: weight / length for term, weight in row.items()})
    return rows


def terms(text: str) -> list[str]:
    """Words in one spelling; scripts that write without spaces give their characters."""
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if any(unicodedata.east_asian_width(char) in "WF" for char in word):
            found.extend(word)
        else:
            found.append(word)
    return found


def _rarity(texts: int, holding: int) -> float:
    ratio = _LOGARITHM.divide(Decimal(1 + texts), Decimal(1 + holding))
    return float(_LOGARITHM.add(_LOGARITHM.ln(ratio), Decimal(1)))


def _gram(rows: Sequence[Mapping[str, float]]) -> Matrix:
    """Products of all pairs of texts, term after term in the order of their letters."""
    import numpy as np  # noqa: PLC0415 - a heavy import

    gram = np.zeros((len(rows), len(rows)))
    holding: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for term in row:
            holding.setdefault(term, []).append(index)
    for term in sorted(holding):
        places = holding[term]
        weights = np.array([rows[place][term] for place in places])
        gram[np.ix_(places, places)] += weights[:, None] * weights[None, :]
    return gram


def eigen(matrix: Matrix) -> tuple[list[float], Matrix]:
    """Eigenvalues of a symmetric matrix, and its eigenvectors as rows: Jacobi's cyclic method."""
    import numpy as np  # noqa: PLC0415 - a heavy import

    work, vectors, size = matrix.copy(), np.eye(len(matrix)), len(matrix)
    least = NEGLIGIBLE * max((float(work[index, index]) for index in range(size)), default=0.0)
    for _ in range(MAX_SWEEPS):
        turned = False
        for one in range(size - 1):
            for other in range(one + 1, size):
                if abs(float(work[one, other])) > least:
                    _turn(work, vectors, one, other)
                    turned = True
        if not turned:
            break
    return [float(work[index, index]) for index in range(size)], vectors


def _turn(work: Matrix, vectors: Matrix, one: int, other: int) -> None:
    """The rotation that makes one element off the diagonal, and its mirror image, zero."""
    first, last = float(work[one, one]), float(work[other, other])
    middle = float(work[one, other])
    slope = (last - first) / (2.0 * middle)
    tangent = math.copysign(1.0, slope) / (abs(slope) + math.sqrt(slope * slope + 1.0))
    cosine = 1.0 / math.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    for matrix in (work, vectors):
        left, right = matrix[one].copy(), matrix[other].copy()
        matrix[one] = cosine * left - sine * right
        matrix[other] = sine * left + cosine * right
    work[:, one], work[:, other] = work[one], work[other]
    work[one, one], work[other, other] = first - tangent * middle, last + tangent * middle
    work[one, other] = work[other, one] = 0.0


def _unit(row: Sequence[float]) -> list[int]:
    length = math.sqrt(math.fsum(value * value for value in row))
    return [round(value / length * SCALE) if length else 0 for value in row] or [0]


# Mode real: a model's embeddings


def _ask_model(
    config: Config, texts: Sequence[Text], model: str, params: Mapping[str, Any]
) -> tuple[list[list[int]], dict[str, int]]:
    """The embeddings that an OpenAI-compatible endpoint answers, and what it counted.

    Raises `ERR_INPUTS`, `ERR_MISSING_SECRET`, and `ERR_PROVIDER` with the kind of failure as
    `detail.reason`. Never asked twice here: retries are the orchestrator's.
    """
    if sum(len(text.body) for text in texts) > MAX_ASKED_CHARS:
        raise _refused("corpus_too_long_for_model")
    if not all(text.body.strip() for text in texts):
        raise _refused("text_empty")
    key = secret("OPENAI_API_KEY")
    asked = model.rpartition("/")[2]
    question = {"model": asked, "input": [text.body for text in texts], "encoding_format": "float"}
    endpoint = params.get("endpoint", DEFAULT_ENDPOINT)
    with config.asking():
        answer = _post(endpoint, key, canonicalize(question))
    rows = _rows(answer, len(texts))
    return rows, _usage(answer.get("usage"), params.get("price"))


def _failed(reason: str) -> TheoryError:
    return TheoryError("ERR_PROVIDER", "provider call failed", {"reason": reason})


def _post(endpoint: str, key: str, question: bytes) -> Mapping[str, Any]:
    """The JSON object that the endpoint answers; nothing that it says goes into an error."""
    spot = locate(f"{endpoint.rstrip('/')}/embeddings")
    wire = connection(spot, timeout_s=REQUEST_TIMEOUT_S)
    headers = {
        "Host": spot.authority,
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    try:
        wire.request("POST", spot.target, body=question, headers=headers)
        answer = wire.getresponse()
        status, body = answer.status, answer.read(MAX_ANSWER_BYTES + 1)
    except TheoryError:
        raise
    except TimeoutError:
        raise _failed("timeout") from None
    except (OSError, http.client.HTTPException, ValueError):
        raise _failed("unreachable") from None
    finally:
        wire.close()
    if status != http.HTTPStatus.OK:
        raise _failed(f"status_{status}")
    if len(body) > MAX_ANSWER_BYTES:
        raise _failed("answer_too_large")
    try:
        document = loads_strict(body)
    except TheoryError:
        raise _failed("answer_invalid") from None
    if not isinstance(document, dict):
        raise _failed("answer_invalid")
    return document


def _rows(answer: Mapping[str, Any], expected: int) -> list[list[int]]:
    """The vectors in the order of the texts, all of one length, in whole `SCALE`ths."""
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != expected:
        raise _failed("answer_invalid")
    found: dict[int, list[int]] = {}
    for entry in data:
        index = entry.get("index") if isinstance(entry, Mapping) else None
        values = entry.get("embedding") if isinstance(entry, Mapping) else None
        if type(index) is not int or not isinstance(values, list):
            raise _failed("answer_invalid")
        if not 1 <= len(values) <= MAX_MODEL_DIMENSIONS or not all(map(_is_component, values)):
            raise _failed("answer_invalid")
        found[index] = [round(value * SCALE) for value in values]
    rows = [found[index] for index in range(expected) if index in found]
    if len(rows) != expected or len({len(row) for row in rows}) != 1:
        raise _failed("answer_invalid")
    return rows


def _is_component(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MILLION


def _usage(stated: object, price: Mapping[str, int] | None) -> dict[str, int]:
    """Tokens as the provider counted them, and their price in whole micro-dollars, rounded up."""
    tokens = stated.get("prompt_tokens") if isinstance(stated, Mapping) else None
    if type(tokens) is not int or not 0 <= tokens < 2**53:
        return {}
    usage = {"tokens": tokens}
    if price is not None:
        usage["usd_micro"] = -(-tokens * price["input"] // MILLION)
    return usage
