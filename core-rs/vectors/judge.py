# ruff: noqa: INP001 - a script, not a package
"""Judge the vectors with the installed `theory_core`; it needs nothing else.

    python judge.py [FILE | FILE#ID]...

Without arguments every case of every file is judged. A case is written `json/text#37`. Exit code 1
names the cases that do not hold, 2 a case that does not exist. The members of each file are told
in its `notes`.
"""

import ast
import copy
import json
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import Any

import theory_core as core

FOLDER = Path(__file__).parent
FACTS = ("offset", "segment", "index", "other", "reason", "member", "place", "problem", "close")
"""Members of a case that are held against the detail of a refusal."""

INPUTS = frozenset({"text", "hex", "repeat"})
"""Members of which a case that names a file has one, if it has an input of its own."""

Case = Mapping[str, Any]
Answer = Callable[[Case], tuple[object, object]]
"""What a case gives and what it should give; a refusal is raised."""


@cache
def files() -> list[str]:
    """Names of the vector files that are judged here, without their ending."""
    names = (path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*.json"))
    judged = (name.removesuffix(".json") for name in names if ".schema." not in name)
    return sorted(name for name in judged if cases(name))


@cache
def cases(file: str) -> dict[int, Case]:
    """The cases of a file by their id.

    Two sorts are judged elsewhere: those of a group `schema`, by the schema beside the file, and
    those that only name a file of somebody else's suite, where that suite is given.
    """
    document = json.loads((FOLDER / f"{file}.json").read_text(encoding="ascii"))
    groups = [group for group in document["testGroups"] if group["type"] != "schema"]
    every = [{"group": group, **case} for group in groups for case in group["tests"]]
    here = [case for case in every if "file" not in case or not INPUTS.isdisjoint(case)]
    return {case["tcId"]: case for case in here}


def fault(file: str, case: Case) -> str | None:
    """What is wrong with the answer to a case, or None."""
    judge = JUDGES["events" if file.startswith("events/") else file]
    try:
        found, expected = judge(case)
    except core.TheoryError as refusal:
        return _misjudged(case, refusal)
    if case["result"] == "invalid" and "fault" not in case and file != "errors/catalogue":
        return "accepted"
    return None if found == expected else "another answer"


def _misjudged(case: Case, refusal: core.TheoryError) -> str | None:
    if case["result"] == "valid":
        return f"refused with {refusal.code}"
    # What is built has its facts from the case, its refusal only a code.
    facts = () if "build" in case else FACTS
    wanted = {name: case[name] for name in facts if name in case}
    found = {name: refusal.detail.get(name) for name in wanted}
    if (refusal.code, found) != (case["code"], wanted):
        return f"refused with {refusal.code} {found}"
    return None if case.get("fragment", "") in refusal.message else "refused in other words"


def _text(case: Case) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    return _pieces(case["repeat"]) if "repeat" in case else case["text"].encode()


def _pieces(pieces: list[tuple[str, int]]) -> bytes:
    return "".join(text * count for text, count in pieces).encode()


def _json_text(case: Case) -> tuple[object, object]:
    data = _text(case)
    expected = case.get("canonical", "").encode()
    if "canonical_repeat" in case:
        expected = _pieces(case["canonical_repeat"])
    answer = core.canonicalize_json(data)
    twice = core.canonicalize_json(answer)
    return (answer, core.canonicalize(core.loads_strict(data)), twice), (expected,) * 3


def _json_object(case: Case) -> tuple[object, object]:
    value: Any = None
    if "nested" in case:
        for _ in range(case["nested"]):
            value = [] if value is None else [value]
    elif "twins" in case:
        value = {_Twin(case["twins"]): 1, _Twin(case["twins"]): 2}
    elif "cycle" in case:
        value = [] if case["cycle"] == "list" else {}
        value.append(value) if case["cycle"] == "list" else value.update(a=value)
    else:
        value = ast.literal_eval(case["python"])
    if "subclass" in case:
        value = type("Sub", (type(value),), {})(value)
    return core.canonicalize(value), case.get("canonical", "").encode()


class _Twin(str):
    """Text that is another key of a dictionary each time."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def _double(case: Case) -> tuple[object, object]:
    (double,) = struct.unpack(">d", bytes.fromhex(case["f64"]))
    return core.canonicalize(double), case.get("canonical", "").encode()


def _digest(case: Case) -> tuple[object, object]:
    data = (bytes(range(251)) * (case["length"] // 251 + 1))[: case["length"]]
    hasher = core.Hasher()
    for start in range(0, len(data), 1000):
        hasher.update(data[start : start + 1000])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data"
        file.write_bytes(data)
        found = {core.digest_file(file, threads=threads) for threads in (None, 1, 2)}
    return found | {core.digest(data), hasher.digest()}, {case["digest"]}


def _digest_text(case: Case) -> tuple[object, object]:
    return core.Chain(case["text"]).hash, case["text"]


def _path(case: Case) -> tuple[object, object]:
    path = core.WorldPath(case["path"], case.get("root"))
    forms = {core.WorldPath(str(path)), core.WorldPath(path.relative, path.root)}
    if len(path.uri.encode()) <= core.LIMITS["path_bytes"]:
        forms.add(core.WorldPath(path.uri))
    return (str(path), forms), (case.get("canonical"), {path})


def _join(case: Case) -> tuple[object, object]:
    return str(core.WorldPath(case["base"]).join(case["rel"])), case.get("canonical")


def _template(case: Case) -> tuple[object, object]:
    expanded = core.expand_prefix(case["template"], case["execution_id"], case.get("root"))
    return str(expanded), case.get("canonical")


def _outputs(case: Case) -> tuple[object, object]:
    paths = core.resolve_outputs(core.WorldPath(case["prefix"]), case["rels"])
    return [str(path) for path in paths], case.get("paths")


def _overlap(case: Case) -> tuple[object, object]:
    a = core.Selector(**case["a"])
    if "b" not in case:
        return a, None
    b = core.Selector(**case["b"])
    overlaps, contains = case["overlaps"], case["contains"]
    return (a.overlaps(b), b.overlaps(a), a.contains(b)), (overlaps, overlaps, contains)


def _writable(case: Case) -> tuple[object, object]:
    selector = core.Selector(**case["selector"])
    core.check_writable(selector)
    return str(selector.path), case["selector"]["path"]


def _append(case: Case) -> tuple[object, object]:
    prev = case["prev"]
    chain = core.Chain(tuple(prev) if isinstance(prev, list) else prev)
    before = (chain.plan, chain.seq, chain.hash, chain.at)
    try:
        sealed = chain.append(case["events"])
    except core.TheoryError:
        if (chain.plan, chain.seq, chain.hash, chain.at) != before:
            return "changed by what it refused", None
        raise
    return [[body.decode(), written] for body, written in sealed], case.get("sealed")


def _chain_limit(case: Case) -> tuple[object, object]:
    ((body, _),) = core.Chain().append([core.loads_strict(_text(case))])
    return len(body), case.get("size_bytes")


def _execution_id(case: Case) -> tuple[object, object]:
    found = core.execution_id(case["plan"], case["transition"], case["attempt"])
    return found, case.get("execution_id")


def _export(case: Case) -> tuple[object, object]:
    def pair(name: str) -> Any:  # noqa: ANN401 - what a case gives
        given = case.get(name)
        return tuple(given) if isinstance(given, list) else given

    report, again = (
        core.verify(
            case["export"].encode(),
            expect_head=pair("expect_head"),
            expect_prev=pair("expect_prev"),
            allow_empty=case.get("allow_empty", False),
            threads=threads,
        )
        for threads in (1, 2)
    )
    if again != report:
        return again, report
    if report.fault is None:
        return (report.count, report.head, report.anchored), (
            case["count"],
            pair("head"),
            case.get("anchored"),
        )
    found = {"seq": report.fault.seq, "line": report.fault.line, "reason": report.fault.reason}
    return (report.count, found), (case["count"], case.get("fault"))


def _law(case: Case) -> tuple[object, object]:
    export = lawbook(case["group"]["plan"], case["group"]["events"], case["edits"])
    fault, names = core.verify(export, laws=True).fault, ("seq", "reason", "law", "member")
    stated = case.get("fault", {}) if case["result"] == "invalid" else {}
    wanted = {name: stated.get(name) for name in names}
    return {name: getattr(fault, name, None) for name in names}, wanted


def _change(made: list[Any], place: int, path: list[Any], *value: object) -> None:
    spot = reduce(lambda part, name: part[name], path[:-1], made[place])
    if value:
        spot[path[-1]] = value[0]
    else:
        del spot[path[-1]]


EDITS: Mapping[str, Callable[..., object]] = {
    "change": _change,
    "copy": lambda made, place, before: made.insert(before - 1, copy.deepcopy(made[place])),
    "drop": lambda made, place: made.pop(place),
    "put": lambda made, place, event: made.insert(place, event),
}


def lawbook(plan: str, events: Sequence[Case], edits: Sequence[Any] = ()) -> list[bytes]:
    """Lines of the export of a ledger of these events after some edits; places count from 1."""
    made = copy.deepcopy(list(events))
    for verb, place, *rest in copy.deepcopy(list(edits)):
        EDITS[verb](made, place - 1, *rest)
    fixed = {"v": core.EVENT_VERSION, "plan": plan, "at": "2026-11-21T04:25:00.123456Z"}
    full = [{**fixed, "seq": seq, **event} for seq, event in enumerate(made, start=1)]
    line = b'{"event":%b,"hash":"%b"}\n'
    return [line % (body, stated.encode()) for body, stated in core.Chain().append(full)]


def _event(case: Case) -> tuple[object, object]:
    body = case["canonical"].encode("ascii")
    found = (core.canonicalize(case["event"]), core.event_hash(case["prev"], body))
    return found, (body, case["hash"])


def _envelope(case: Case) -> tuple[object, object]:
    answer = core.validate_envelope(case["envelope"], **case.get("expect", {}))
    return core.canonicalize(answer), case.get("canonical", "").encode()


def _many_outputs(case: Case) -> tuple[object, object]:
    folder = f"{case['write_prefix']}outputs/"
    outputs = [{**case["output"], "path": f"{folder}{n:06}"} for n in range(case["outputs"])]
    answer = core.validate_envelope({**case["envelope"], "outputs": outputs})
    return len(answer["outputs"]), case["outputs"]


def _built(case: Case) -> tuple[object, object]:
    given = {"env_fingerprint": case["env_fingerprint"]}
    if case["build"] == "success":
        given |= {"write_prefix": case["write_prefix"], "image_digest": case.get("image_digest")}
        built = core.success_envelope(case["execution_id"], case["outputs"], **given)
    else:
        given |= {"reason": case.get("reason"), "stderr_tail": case.get("stderr_tail")}
        built = core.error_envelope(case["execution_id"], case["code_given"], **given)
    return built, case.get("canonical", "").encode()


def _frame(case: Case) -> tuple[object, object]:
    text = _text(case)
    frame = core.validate_frame(text, case["direction"])
    written = core.encode_frame(frame["kind"], frame["content"], seq=frame.get("seq"))
    if "repeat" in case:
        return written, text
    return (frame, written), (case["frame"], core.canonicalize(case["frame"]))


def _conversation(case: Case) -> tuple[object, object]:
    ends = {"client": core.RunProtocol("client"), "server": core.RunProtocol("server")}
    *before, last = case["steps"]
    for side, frame in before:
        _say(ends, side, frame)
    if case["result"] == "invalid":
        listener = ends["server" if last[0] == "client" else "client"]
        try:
            listener.receive(core.canonicalize(last[1]))
        except core.TheoryError as refusal:
            if (wrong := _misjudged(case, refusal)) is not None:
                return wrong, None
        else:
            return "received", None
    _say(ends, *last)
    return [end.phase for end in ends.values()], [case.get("phase")] * 2


def _say(ends: Mapping[str, core.RunProtocol], side: str, frame: Mapping[str, Any]) -> None:
    text = ends[side].send(frame["kind"], frame["content"], seq=frame.get("seq"))
    ends["server" if side == "client" else "client"].receive(text)


def _catalogue(case: Case) -> tuple[object, object]:
    entry = core.ERROR_CODES.get(case["code"])
    if entry is None or case["result"] == "invalid":
        return entry is not None, case["result"] == "valid"
    found = (entry.status, entry.retryable, entry.summary)
    return found, (case["status"], case["retryable"], case.get("summary", entry.summary))


JUDGES: Mapping[str, Answer] = {
    "chain/append": _append,
    "chain/execution_id": _execution_id,
    "chain/export": _export,
    "chain/limits": _chain_limit,
    "digest/bytes": _digest,
    "digest/grammar": _digest_text,
    "envelope/build": _built,
    "envelope/limits": _many_outputs,
    "envelope/validate": _envelope,
    "errors/catalogue": _catalogue,
    "events": _event,
    "frames/conversation": _conversation,
    "frames/limits": _frame,
    "frames/wire": _frame,
    "json/decisions": _json_text,
    "json/doubles": _double,
    "json/objects": _json_object,
    "json/text": _json_text,
    "laws/plan": _law,
    "path/canonical": _path,
    "path/join": _join,
    "path/outputs": _outputs,
    "path/template": _template,
    "selector/overlap": _overlap,
    "selector/writable": _writable,
}
"""File, or folder of files that are alike -> how a case of it is judged."""


def _chosen(arguments: list[str]) -> Iterator[tuple[str, int, Case]]:
    for argument in arguments or files():
        found = re.fullmatch(r"([a-z_./]+)(?:#([0-9]+))?", argument)
        if found is None or found[1] not in files():
            raise LookupError(argument)
        every = cases(found[1])
        for number in [int(found[2])] if found[2] else every:
            if number not in every:
                raise LookupError(argument)
            yield found[1], number, every[number]


def main(arguments: list[str]) -> int:
    """Judge what the arguments name, and say how many cases hold."""
    try:
        chosen = list(_chosen(arguments))
    except LookupError as unknown:
        sys.stderr.write(f"no such vector: {unknown.args[0]}\n")
        return 2
    wrong = 0
    for file, number, case in chosen:
        if (problem := fault(file, case)) is not None:
            wrong += 1
            sys.stderr.write(f"{file}#{number}: {problem}: {case['comment']}\n")
    sys.stdout.write(f"{len(chosen) - wrong} of {len(chosen)} vectors hold\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
