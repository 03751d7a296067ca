"""Propose the transitions that make a goal hold, from the world as it is and what can be made."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from theory_core import TheoryError, canonicalize, loads_strict
from theory_runtime import Config, OutputItem, ProcessorResult, secret
from theory_runtime.egress import connection, locate

NAME: Final = "planner"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.proposals.v1"
MAX_ANSWER_BYTES: Final = 1024 * 1024
REQUEST_TIMEOUT_S: Final = 120
DEFAULT_MODEL: Final = "gpt-4o-mini"
PROMPT: Final = (
    "You plan work. `goal` is a predicate that does not hold yet, and why: an artifact of the kind "
    "`wanted` is missing. `world` lists the artifacts that are there. `catalogue` lists the "
    "processors: each takes parameters of some kinds and makes kinds, at paths below its outputs. "
    "Call the tool `propose` once with every transition that is needed and none that is not. A "
    'parameter is {"$artifact": path} of the world, or {"$output": {"transition": id, "path": '
    "path}} of another transition. `refused`, if it is there, names a proposal that was refused, "
    "and why: do not repeat it."
)

_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,47}")
_OK: Final = 200
MILLION: Final = 1_000_000

Step = dict[str, Any]


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner for `config.mode`; `params` are those of the registry's `agent/planner@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        question = read(params)
        usage = {"tokens": 0, "usd_micro": 0}
        steps: list[Step] = []
        held = question["goal"]["verdict"] == "true"
        if not held and config.mode == "real":
            steps, usage = ask(config, question, params)
        elif not held:
            steps = chain(question)
        for step in steps:
            config.progress("Token", {"text": f"{step['id']}: {step['processor_ref']}\n"})
        told = {"schema": SCHEMA, "goal_holds": held, "steps": [step["id"] for step in steps]}
        return ProcessorResult(
            outputs=[OutputItem("outputs/plan.json", canonicalize(told), "application/json")],
            usage=usage,
            processor_info=f"{NAME} {VERSION}",
            transitions=steps,
        )

    return run


# What is asked


def read(params: Mapping[str, Any]) -> dict[str, Any]:
    """Goal, wanted kind, world, catalogue and refusal; raises `ERR_INPUTS` with the reason."""
    goal, wanted = params.get("goal"), params.get("wanted")
    where = goal.get("params") if isinstance(goal, Mapping) else None
    path = where.get("path") if isinstance(where, Mapping) else None
    if not isinstance(path, str) or not re.fullmatch(r"/artifacts/(?:[^/]+/)+", path):
        raise _refused("goal_path")
    verdict = goal.get("verdict") if isinstance(goal, Mapping) else None
    if verdict not in {"true", "false", "error"}:
        raise _refused("goal_verdict")
    if not isinstance(wanted, str) or not _KIND.fullmatch(wanted):
        raise _refused("wanted")
    return {
        "goal": goal,
        "wanted": wanted,
        "world": of_kinds(params.get("world"), params.get("kinds", ())),
        "catalogue": list(params.get("catalogue", ())),
        "refused": params.get("refused"),
    }


def of_kinds(world: object, kinds: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The artifacts that are there and are of a kind, `{path, kind}` each, in the world's order."""
    if not isinstance(world, list):
        raise _refused("world")
    found = []
    for item in world:
        if not isinstance(item, Mapping) or not all(
            isinstance(item.get(name), str) for name in ("path", "mime")
        ):
            raise _refused("world")
        kind = next((rule["kind"] for rule in kinds if _fits(item, rule)), None)
        if kind is not None:
            found.append({"path": item["path"], "kind": kind})
    return found


def _fits(item: Mapping[str, str], rule: Mapping[str, str]) -> bool:
    if item["mime"] != rule.get("mime", item["mime"]):
        return False
    asked, there = rule["path"].split("/"), item["path"].split("/")
    if asked[-1] == "" and len(there) >= len(asked):
        asked, there = asked[:-1], there[: len(asked) - 1]
    return len(asked) == len(there) and all(map(_like, there, asked))


def _like(segment: str, pattern: str) -> bool:
    """Whether a segment is what a pattern with one `*` at most stands for."""
    head, star, tail = pattern.partition("*")
    if not star:
        return segment == pattern
    long_enough = len(segment) >= len(head) + len(tail)
    return long_enough and segment.startswith(head) and segment.endswith(tail)


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


# Mode mock: backwards from what is wanted to what is there


def chain(question: Mapping[str, Any]) -> list[Step]:
    """The steps that make the wanted kind, each after those whose outputs it takes.

    Law: the same question gives the same steps, and no step makes what the world has already. The
    first processor of the catalogue that leads there is taken; one that was refused never is.
    Raises `ERR_INPUTS` `no_way` if none leads there.
    """
    steps = _make(question["wanted"], question, {}, ())
    if steps is None:
        raise _refused("no_way")
    found = list(steps.values())
    found[-1]["write_prefix"] = question["goal"]["params"]["path"] + "{execution_id}/"
    return found


def _make(
    kind: str, question: Mapping[str, Any], before: Mapping[str, Step], above: tuple[str, ...]
) -> dict[str, Step] | None:
    """Steps by kind, `before` among them, that end with one that makes `kind`; None for no way."""
    if kind in before:
        return dict(before)
    if kind in above:
        return None
    barred = (question["refused"] or {}).get("processor_ref")
    for entry in question["catalogue"]:
        if kind not in entry.get("makes", {}) or entry["ref"] == barred:
            continue
        steps: dict[str, Step] | None = dict(before)
        inputs: dict[str, Any] = dict(entry.get("params", {}))
        for name, needed in sorted(entry.get("takes", {}).items()):
            there = next((i["path"] for i in question["world"] if i["kind"] == needed), None)
            if there is not None:
                inputs[name] = {"$artifact": there}
                continue
            steps = _make(needed, question, steps or {}, (*above, kind))
            if steps is None:
                break
            inputs[name] = _output(steps[needed], needed, question)
        if steps is not None:
            steps[kind] = {"id": f"make-{kind}", "processor_ref": entry["ref"], "inputs": inputs}
            return steps
    return None


def _output(step: Step, kind: str, question: Mapping[str, Any]) -> dict[str, Any]:
    maker = next(item for item in question["catalogue"] if item["ref"] == step["processor_ref"])
    return {"$output": {"transition": step["id"], "path": maker["makes"][kind]}}


# Mode real: a model proposes


def ask(
    config: Config, question: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[list[Step], dict[str, int]]:
    """One answer of an OpenAI-compatible endpoint, its tool call read as steps.

    Raises `ERR_MISSING_SECRET`, and `ERR_PROVIDER` with the kind of failure as `detail.reason`.
    """
    body = {
        "model": params.get("model", DEFAULT_MODEL),
        "messages": [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": canonicalize(dict(question)).decode()},
        ],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "propose"}},
    }
    with config.asking():
        answer = _post(str(params.get("endpoint", "https://api.openai.com/v1")), body)
    try:
        call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
        proposed = loads_strict(call["arguments"])["transitions"]
        steps = [{name: item[name] for name in _STEP} for item in proposed]
    except (TheoryError, KeyError, IndexError, TypeError) as error:
        raise _failed("tool_call") from error
    return _placed(steps, question), _usage(answer, params.get("price"))


_STEP: Final = ("id", "processor_ref", "inputs")
TOOL: Final[Mapping[str, Any]] = {
    "name": "propose",
    "description": "Propose transitions, in any order.",
    "parameters": {
        "type": "object",
        "required": ["transitions"],
        "properties": {
            "transitions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": list(_STEP),
                    "properties": {
                        "id": {"type": "string"},
                        "processor_ref": {"type": "string"},
                        "inputs": {"type": "object"},
                    },
                },
            }
        },
    },
}


def _placed(steps: list[Step], question: Mapping[str, Any]) -> list[Step]:
    """The steps, those that make what is wanted writing where the goal looks."""
    makers = {
        entry["ref"] for entry in question["catalogue"] if question["wanted"] in entry["makes"]
    }
    for step in steps:
        if step["processor_ref"] in makers:
            step["write_prefix"] = question["goal"]["params"]["path"] + "{execution_id}/"
    return steps


def _post(endpoint: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an answer is JSON
    """One request, never repeated: retries are the orchestrator's; no redirect is followed."""
    key = secret("OPENAI_API_KEY")
    spot = locate(f"{endpoint.rstrip('/')}/chat/completions")
    wire = connection(spot, timeout_s=REQUEST_TIMEOUT_S)
    headers = {
        "Host": spot.authority,
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Authorization": f"Bearer {key}",
    }
    try:
        wire.request("POST", spot.target, json.dumps(body), headers)
        answer = wire.getresponse()
        text = answer.read(MAX_ANSWER_BYTES + 1)
    except TheoryError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(type(error).__name__) from None
    finally:
        wire.close()
    if answer.status != _OK or len(text) > MAX_ANSWER_BYTES:
        raise _failed(f"status_{answer.status}")
    try:
        return loads_strict(text)
    except TheoryError as error:
        raise _failed("answer") from error


def _usage(answer: Mapping[str, Any], price: Mapping[str, int] | None) -> dict[str, int]:
    """Tokens as the provider counted them, and their price in whole micro-dollars, rounded up.

    What is not stated is not reported: the hold is booked then.
    """
    stated = answer.get("usage")
    counts = stated if isinstance(stated, Mapping) else {}
    asked, answered = (counts.get(f"{name}_tokens") for name in ("prompt", "completion"))
    if type(asked) is not int or type(answered) is not int or min(asked, answered) < 0:
        return {}
    usage = {"tokens": asked + answered}
    if price is not None:
        cost = asked * price["input"] + answered * price["output"]
        usage["usd_micro"] = -(-cost // MILLION)
    return usage


def _failed(reason: str) -> TheoryError:
    return TheoryError("ERR_PROVIDER", "provider call failed", {"reason": reason})
