"""An address in the inputs is on its policy's list, by scheme, host and port, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain.uris import check, hidden, names, origin, undeclared
from theory_core import TheoryError

SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "format": "uri"},
        "more": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "text": {"type": "string"},
    },
}
ALLOW = ("https://api.example.org", "http://127.0.0.1:8080", "http://[::1]:80")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"text": "https://evil.example/"},
        {"url": "https://api.example.org"},
        {"url": "https://api.example.org:443/v1?x=%20&y=@"},
        {"url": "http://127.0.0.1:8080/"},
        {"url": "http://[::1]/x"},
        {"more": ["https://api.example.org/a", "http://127.0.0.1:8080/b"]},
        {"url": 7},
        {"url": None},
        {"more": "not a list"},
    ],
)
def test_an_address_on_the_list_is_let_through(params: dict[str, Any]) -> None:
    check(SCHEMA, params, ALLOW)


@pytest.mark.scenario(98)
@pytest.mark.parametrize(
    "uri",
    [
        "http://api.example.org",
        "https://api.example.org:8443/",
        "https://api.example.org.evil.example/",
        "https://api.example.org@evil.example/",
        "https://evil.example/?https://api.example.org",
        "https://evil.example#api.example.org",
        "https://api.example.org#frag",
        "https://API.example.org/",
        "https://api.example.org./",
        "https://api.example.org\\@evil.example/",
        "https:/\\api.example.org/",
        "https://api.example.org /",
        "https://api.example.org/\n",
        "https://api.example.org/é",
        "https://аpi.example.org/",  # noqa: RUF001 - a Cyrillic letter
        "http://127.1:8080/",
        "http://2130706433:8080/",
        "http://0x7f.0.0.1:8080/",
        "http://[::ffff:127.0.0.1]:8080/",
        "http://127.0.0.1:08080/",
        "http://127.0.0.1:80808/",
        "http://169.254.169.254/latest/meta-data/",
        "//api.example.org/",
        "file:///etc/passwd",
        "ext::sh -c id",
        "git://api.example.org/",
        "",
    ],
)
def test_any_other_is_refused_with_its_place(uri: str) -> None:
    for params, place in (({"url": uri}, "url"), ({"more": [ALLOW[0], uri]}, "more[1]")):
        with pytest.raises(TheoryError, match="uri not allowed") as caught:
            check(SCHEMA, params, ALLOW)
        assert caught.value.code == "ERR_INPUTS"
        assert caught.value.detail == {"place": f"$.params.{place}", "reason": "uri"}
        assert uri == "" or uri not in caught.value.message


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(TheoryError, match="uri not allowed"):
        check(SCHEMA, {"url": "https://api.example.org"}, ())


def test_a_schema_says_whether_it_has_addresses() -> None:
    assert names(SCHEMA)
    assert not names({"type": "object", "properties": {"a": {"type": "string"}}})
    assert not names({"type": "object"})


def test_the_default_port_is_the_schemes() -> None:
    assert origin("https://a.example") == ("https", "a.example", 443)
    assert origin("http://a.example:80/x") == ("http", "a.example", 80)


@pytest.mark.parametrize(
    ("schema", "params", "place"),
    [
        (
            {"properties": {"to": {"properties": {"url": {"format": "uri"}}}}},
            {"to": {"url": "http://169.254.169.254/"}},
            "$.params.to.url",
        ),
        (
            {"properties": {"rows": {"items": {"items": {"format": "uri"}}}}},
            {"rows": [[], ["https://api.example.org/", "http://169.254.169.254/"]]},
            "$.params.rows[1][1]",
        ),
    ],
)
def test_an_address_deep_inside_is_found(
    schema: dict[str, Any], params: dict[str, Any], place: str
) -> None:
    assert names(schema)
    assert not hidden(schema)
    with pytest.raises(TheoryError) as refused:
        check(schema, params, ALLOW)
    assert refused.value.detail["place"] == place


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"url": {"anyOf": [{"format": "uri"}, {"type": "null"}]}}},
        {"properties": {"url": {"$ref": "#/$defs/url"}}, "$defs": {"url": {"format": "uri"}}},
        {"additionalProperties": {"format": "uri"}},
        {"properties": {"rows": {"prefixItems": [{"format": "uri"}]}}},
    ],
)
def test_an_address_that_no_check_would_look_at_is_told(schema: dict[str, Any]) -> None:
    assert hidden(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"endpoint": {"type": "string", "maxLength": 9}}},
        {"properties": {"base_url": {"type": "string"}}},
        {"properties": {"callback-URI": {"type": ["string", "null"]}}},
        {"properties": {"urls": {"type": "array", "items": {"type": "string"}}}},
        {"properties": {"url": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"properties": {"place": {"type": "string", "pattern": "^https?://[^@]+$"}}},
        {"properties": {"place": {"pattern": "^(?:https|ftp)://"}}},
        {"properties": {"to": {"properties": {"uri": {"type": "string"}}}}},
        {"anyOf": [{"properties": {"uri": {"type": "string"}}}]},
    ],
)
def test_an_address_that_does_not_say_so_is_told(schema: dict[str, Any]) -> None:
    assert undeclared(schema) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"endpoint": {"type": "string", "format": "uri"}}},
        {"properties": {"urls": {"type": "array", "items": {"type": "string", "format": "uri"}}}},
        {"properties": {"curl": {"type": "string"}, "urls": {"type": "integer"}}},
        {"properties": {"text": {"type": "string", "pattern": "^see http"}}},
    ],
)
def test_what_is_no_address_needs_no_format(schema: dict[str, Any]) -> None:
    assert undeclared(schema) is None
