"""In mode real a model writes the script; what it costs is what its provider counted."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import theory_runtime.egress
from theory_core import TheoryError
from theory_runtime.egress import Spot, locate

REF = "llm/litellm@1"
HOME = "https://api.openai.com/v1"
KNOWN = {"gpt-4o-mini": "chat", "gpt-5-pro": "responses"}
ANSWER = ["A Title\n", "First line", " of it.\n\n", "2. **Second** line.\n"]


class Stream:
    """LiteLLM's answer to a streamed request, as far as the provider looks at it."""

    def __init__(self, texts: list[str], usage: tuple[int, int] | None) -> None:
        self.chunks = [self._chunk(text) for text in texts]
        if usage is not None:
            count = SimpleNamespace(prompt_tokens=usage[0], completion_tokens=usage[1])
            self.chunks.append(SimpleNamespace(choices=[], usage=count))

    @staticmethod
    def _chunk(text: str) -> SimpleNamespace:
        delta = SimpleNamespace(content=text)
        return SimpleNamespace(choices=[SimpleNamespace(delta=delta)], usage=None)

    def __iter__(self) -> Iterator[SimpleNamespace]:
        return iter(self.chunks)


class RateLimitError(Exception):
    """A library's own error, of a type that nobody here knows."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, providers: Callable[[str], ModuleType]) -> Any:
    """A stand-in for LiteLLM whose answer a test chooses; it keeps the request."""
    del providers
    state = SimpleNamespace(request={}, texts=ANSWER, usage=(111, 22), error=None)

    def completion(**request: Any) -> Stream:
        state.request = request
        if state.error is not None:
            raise type(state.error)(*state.error.args)
        return Stream(state.texts, state.usage)

    def known(name: str, provider: str) -> dict[str, str]:
        assert provider == "openai"
        if name not in KNOWN:
            raise RateLimitError
        return {"mode": KNOWN[name]}

    def public(uri: object) -> Spot:
        return (
            Spot("https", "api.openai.com", 443, "/v1", "93.184.215.14")
            if uri == HOME
            else (locate(uri))
        )

    library = ModuleType("litellm")
    library.completion = completion  # type: ignore[attr-defined]
    library.get_model_info = known  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm", library)
    client = ModuleType("openai")
    client.OpenAI = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openai", client)
    monkeypatch.setattr(theory_runtime.egress, "locate", public)
    monkeypatch.setattr(theory_runtime, "secret", lambda name: f"value-of-{name}")
    return state


def test_the_answer_becomes_the_script_and_streams_as_it_comes(run: Any, model: Any) -> None:
    price = {"input": 150_000, "output": 600_000}
    params = {"task": "script", "text": "Some text.", "model": "openai/m", "price": price}
    ran = run(REF, params, mode="real")
    script = json.loads(ran.outputs["outputs/script.json"])
    assert (script["title"], script["lines"]) == ("A Title", ["First line of it.", "Second line."])
    tokens = [("Token", {"text": text}) for text in ANSWER]
    call, response = (("Event", {"phase": f"provider.{name}"}) for name in ("call", "response"))
    assert ran.frames == [call, *tokens, response]
    assert ran.usage == {"tokens": 133, "usd_micro": 30}  # 16.65 + 13.2, rounded up
    assert "openai/m" in ran.info
    assert model.request["api_key"] == "value-of-OPENAI_API_KEY"


def test_a_request_is_never_repeated_by_the_library(run: Any, model: Any) -> None:
    params = {"task": "script", "text": "t", "endpoint": "http://127.0.0.1:1/v1"}
    run(REF, params, mode="real")
    assert (model.request["num_retries"], model.request["max_retries"]) == (0, 0)
    assert model.request["api_base"] == "http://127.0.0.1:1/v1"
    assert model.request["timeout"] > 0
    assert model.request["messages"][1] == {"role": "user", "content": "t"}


def test_a_prompt_of_ones_own_replaces_the_registrys(run: Any, model: Any) -> None:
    run(REF, {"task": "script", "text": "t", "prompt": "Be brief."}, mode="real")
    assert model.request["messages"][0] == {"role": "system", "content": "Be brief."}


def test_usage_that_the_provider_does_not_state_is_unknown_not_zero(run: Any, model: Any) -> None:
    model.usage = None
    assert run(REF, {"task": "script", "text": "t"}, mode="real").usage == {}


def test_cost_without_a_price_is_unknown_not_zero(run: Any, model: Any) -> None:
    del model
    assert run(REF, {"task": "script", "text": "t"}, mode="real").usage == {"tokens": 133}


def test_a_failure_of_the_provider_is_coded_and_named_by_kind_alone(run: Any, model: Any) -> None:
    model.error = RateLimitError("your key sk-very-secret is out of quota")
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "script", "text": "t"}, mode="real")
    assert (caught.value.code, caught.value.detail) == (
        "ERR_PROVIDER",
        {"reason": "RateLimitError"},
    )
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("texts", [[], ["\n", "  \n"], ["***\n"]])
def test_an_answer_without_words_is_a_failure_of_the_provider(
    run: Any, model: Any, texts: list[str]
) -> None:
    model.texts = texts
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "script", "text": "t"}, mode="real")
    assert caught.value.detail == {"reason": "empty_answer"}


def test_an_answer_that_goes_on_and_on_is_bounded(run: Any, model: Any) -> None:
    model.texts = ["Title\n", *(f"Line {number} of too many lines.\n" for number in range(500))]
    params = {"task": "script", "text": "t", "max_chars": 300}
    script = json.loads(run(REF, params, mode="real").outputs["outputs/script.json"])
    assert sum(map(len, script["lines"])) <= 300


def test_a_text_beyond_what_is_held_tokens_for_is_refused(run: Any, model: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "script", "text": "x" * 24_001}, mode="real")
    assert caught.value.detail == {"reason": "text_too_long_for_model"}
    assert model.request == {}


def test_without_a_key_nothing_is_asked(run: Any) -> None:
    with pytest.raises(TheoryError, match="missing required secret") as caught:
        run(REF, {"task": "script", "text": "t"}, mode="real")
    assert caught.value.code == "ERR_MISSING_SECRET"


@pytest.mark.parametrize(
    ("given", "asked"), [("openai/gpt-4o-mini", "gpt-4o-mini"), ("groq/m", "groq/m")]
)
def test_whatever_a_model_is_called_the_key_goes_to_the_endpoint(
    run: Any, model: Any, given: str, asked: str
) -> None:
    run(REF, {"task": "script", "text": "t", "model": given}, mode="real")
    assert model.request["model"] == asked
    assert model.request["custom_llm_provider"] == "openai"
    assert model.request["client"].base_url == HOME
    assert not model.request["client"].http_client.follow_redirects


@pytest.mark.parametrize("name", ["openai/gpt-5-pro", "responses/m", "openai/responses/m"])
def test_a_model_that_the_library_asks_in_its_own_way_is_refused(
    run: Any, model: Any, name: str
) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "script", "text": "t", "model": name}, mode="real")
    assert (caught.value.code, caught.value.detail) == ("ERR_INPUTS", {"reason": "model"})
    assert model.request == {}


@pytest.mark.scenario(98)
def test_a_name_that_leads_inside_gets_no_key(run: Any, model: Any) -> None:
    params = {"task": "script", "text": "t", "endpoint": "http://localhost:1/v1"}
    with pytest.raises(TheoryError) as caught:
        run(REF, params, mode="real")
    assert caught.value.detail == {"reason": "address_private"}
    assert model.request == {}
