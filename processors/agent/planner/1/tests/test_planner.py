"""The planner reads a goal and a world, and proposes what is missing between them."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

import theory_runtime
from theory_core import TheoryError

REF = "agent/planner@1"
GOAL = {
    "name": "artifact.exists@1",
    "params": {"path": "/artifacts/film/"},
    "verdict": "false",
    "reason": "0 of 1 below /artifacts/film/",
}
HELD = GOAL | {"verdict": "true", "reason": "1 of 1 below /artifacts/film/"}


def there(path: str, mime: str = "text/plain") -> dict[str, Any]:
    """An artifact as the orchestrator lists it."""
    return {"path": path, "cid": "b3:" + "0" * 64, "size_bytes": 1, "mime": mime}


TEXT = there("/artifacts/attachments/text")
SCRIPT = there("/artifacts/attachments/script", "application/json")
KINDS = [
    {"kind": "text", "path": "/artifacts/attachments/text"},
    {"kind": "script", "path": "/artifacts/attachments/script"},
    {"kind": "script", "path": "/artifacts/outputs/*/*/outputs/script.json"},
    {"kind": "frames", "path": "/artifacts/film/", "mime": "image/png"},
]
CATALOGUE = [
    {"ref": "media/shotlist@1", "takes": {"script": "script"}, "makes": {"shots": "outputs/s"}},
    {"ref": "llm/litellm@1", "takes": {"text": "text"}, "makes": {"script": "outputs/t"}},
    {"ref": "media/frames@1", "takes": {"shotlist": "shots"}, "makes": {"frames": "outputs/f/"}},
]


def question(world: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    asked = {"goal": GOAL, "wanted": "frames", "world": world, "kinds": KINDS}
    return asked | {"catalogue": CATALOGUE} | more


def proposed(run: Any, params: dict[str, Any]) -> list[dict[str, Any]]:
    ran = run(REF, params)
    steps = list(ran.transitions)
    told = json.loads(ran.outputs["outputs/plan.json"])
    assert told["steps"] == [step["id"] for step in steps]
    return steps


def refs(steps: list[dict[str, Any]]) -> list[str]:
    return [step["processor_ref"] for step in steps]


def test_two_worlds_have_two_plans(run: Any) -> None:
    from_text = proposed(run, question([TEXT]))
    assert refs(from_text) == ["llm/litellm@1", "media/shotlist@1", "media/frames@1"]
    from_script = proposed(run, question([TEXT, SCRIPT]))
    assert refs(from_script) == ["media/shotlist@1", "media/frames@1"]
    assert from_script[0]["inputs"] == {"script": {"$artifact": SCRIPT["path"]}}


def test_each_step_takes_what_the_one_before_makes_and_the_last_writes_where_the_goal_looks(
    run: Any,
) -> None:
    first, second, third = proposed(run, question([TEXT]))
    assert first["inputs"] == {"text": {"$artifact": TEXT["path"]}}
    assert second["inputs"]["script"]["$output"] == {"transition": first["id"], "path": "outputs/t"}
    assert third["inputs"]["shotlist"]["$output"]["transition"] == second["id"]
    assert [step.get("write_prefix") for step in (first, second, third)] == [
        None,
        None,
        "/artifacts/film/{execution_id}/",
    ]


def test_where_the_goal_holds_nothing_is_proposed_whatever_the_world_looks_like(run: Any) -> None:
    done = there("/artifacts/film/x1/outputs/f/1.png", "image/png")
    for world in ([TEXT, done], [TEXT]):
        assert proposed(run, question(world, goal=HELD)) == []
    for verdict in ("false", "error"):
        assert len(proposed(run, question([TEXT], goal=GOAL | {"verdict": verdict}))) == 3


@pytest.mark.parametrize(
    ("path", "mime", "kind"),
    [
        ("/artifacts/attachments/text", "text/plain", "text"),
        ("/artifacts/attachments/text/more", "text/plain", None),
        ("/artifacts/attachments/texts", "text/plain", None),
        ("/artifacts/outputs/llm-litellm-v1/x1/outputs/script.json", "application/json", "script"),
        ("/artifacts/outputs/x1/outputs/script.json", "application/json", None),
        ("/artifacts/film/x1/outputs/f/1.png", "image/png", "frames"),
        ("/artifacts/film/x1/outputs/f/1.json", "application/json", None),
        ("/artifacts/film", "image/png", None),
    ],
)
def test_the_kind_of_an_artifact_is_that_of_the_first_rule_that_fits(
    run: Any, path: str, mime: str, kind: str | None
) -> None:
    maker = {"ref": "a/a@1", "takes": {"x": kind or "text"}, "makes": {"goods": "outputs/g"}}
    asked = question([there(path, mime)], wanted="goods", catalogue=[maker])
    if kind is None:
        with pytest.raises(TheoryError, match="invalid inputs"):
            run(REF, asked)
        return
    assert [step["inputs"] for step in proposed(run, asked)] == [{"x": {"$artifact": path}}]


def test_what_was_refused_is_not_proposed_again(run: Any) -> None:
    other = {"ref": "llm/other@1", "takes": {"text": "text"}, "makes": {"script": "outputs/o"}}
    asked = question([TEXT], catalogue=[*CATALOGUE, other])
    assert "llm/litellm@1" in refs(proposed(run, asked))
    again = proposed(run, asked | {"refused": {"processor_ref": "llm/litellm@1"}})
    assert refs(again) == ["llm/other@1", "media/shotlist@1", "media/frames@1"]


def test_a_circle_of_processors_is_no_way(run: Any) -> None:
    circle = [
        {"ref": "a/a@1", "takes": {"x": "shots"}, "makes": {"frames": "outputs/a"}},
        {"ref": "b/b@1", "takes": {"x": "frames"}, "makes": {"shots": "outputs/b"}},
    ]
    for catalogue in (circle, []):
        with pytest.raises(TheoryError) as caught:
            run(REF, question([TEXT], catalogue=catalogue))
        assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "no_way")


def test_a_way_that_leads_nowhere_is_left_for_one_that_does(run: Any) -> None:
    blind = {"ref": "z/blind@1", "takes": {"x": "nothing"}, "makes": {"frames": "outputs/z"}}
    steps = proposed(run, question([SCRIPT], catalogue=[blind, *CATALOGUE]))
    assert refs(steps) == ["media/shotlist@1", "media/frames@1"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"goal": GOAL | {"params": {"path": "/artifacts/x"}}}, "goal_path"),
        ({"goal": GOAL | {"verdict": "perhaps"}}, "goal_verdict"),
        ({"goal": 5}, "goal_path"),
        ({"wanted": "No kind"}, "wanted"),
        ({"world": 5}, "world"),
        ({"world": [{"path": 5, "mime": "x"}]}, "world"),
    ],
)
def test_a_question_that_does_not_fit_is_refused(
    run: Any, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, question([TEXT]) | more)
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An OpenAI-compatible endpoint on loopback that answers what a test chooses."""
    state = SimpleNamespace(asked=None, key=None, arguments="", status=200, seen=0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.seen += 1
            state.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.key = self.headers["Authorization"]
            call = {"function": {"name": "propose", "arguments": state.arguments}}
            answer = {
                "choices": [{"message": {"tool_calls": [call]}}],
                "usage": {"prompt_tokens": 70, "completion_tokens": 7},
            }
            body = json.dumps(answer).encode()
            self.send_response(state.status)
            if state.status == HTTPStatus.TEMPORARY_REDIRECT:
                self.send_header("Location", f"{state.url}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Keep quiet."""

    monkeypatch.setattr(theory_runtime, "secret", lambda name: f"value-of-{name}")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield state
        server.shutdown()
        thread.join()


def test_a_model_proposes_by_a_tool_call(run: Any, endpoint: Any) -> None:
    step = {"id": "draw", "processor_ref": "media/frames@1", "inputs": {"shotlist": "x"}}
    endpoint.arguments = json.dumps({"transitions": [step]})
    price = {"input": 150_000, "output": 600_000}
    ran = run(REF, question([TEXT], endpoint=endpoint.url, model="m", price=price), mode="real")
    assert list(ran.transitions) == [step | {"write_prefix": "/artifacts/film/{execution_id}/"}]
    assert ran.usage == {"tokens": 77, "usd_micro": 15}  # 10.5 + 4.2, rounded up
    assert endpoint.key == "Bearer value-of-OPENAI_API_KEY"
    assert endpoint.asked["tools"][0]["function"]["name"] == "propose"
    assert json.loads(endpoint.asked["messages"][1]["content"])["world"] == [
        {"path": TEXT["path"], "kind": "text"}
    ]


def test_a_model_is_not_asked_where_the_goal_holds(run: Any, endpoint: Any) -> None:
    ran = run(REF, question([TEXT], goal=HELD, endpoint=endpoint.url), mode="real")
    assert list(ran.transitions) == []
    assert endpoint.asked is None


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [("no JSON", 200, "tool_call"), ('{"x":1}', 200, "tool_call"), ("{}", 500, "status_500")],
)
def test_an_answer_that_is_none_is_a_providers_error(
    run: Any, endpoint: Any, arguments: str, status: int, reason: str
) -> None:
    endpoint.arguments, endpoint.status = arguments, status
    with pytest.raises(TheoryError) as caught:
        run(REF, question([TEXT], endpoint=endpoint.url), mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_PROVIDER", reason)


@pytest.mark.scenario(98)
def test_a_redirect_is_not_followed(run: Any, endpoint: Any) -> None:
    endpoint.status = HTTPStatus.TEMPORARY_REDIRECT.value
    with pytest.raises(TheoryError) as caught:
        run(REF, question([TEXT], endpoint=endpoint.url), mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_PROVIDER", "status_307")
    assert endpoint.seen == 1


@pytest.mark.scenario(98)
def test_a_name_that_leads_inside_gets_no_key(run: Any, endpoint: Any) -> None:
    url = endpoint.url.replace("127.0.0.1", "localhost")
    with pytest.raises(TheoryError) as caught:
        run(REF, question([TEXT], endpoint=url), mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "address_private")
    assert endpoint.seen == 0
