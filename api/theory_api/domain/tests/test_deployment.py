"""Names of what is deployed, and what a deployment states of its processor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import theory_api
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.deployment import (
    NAME_LENGTH,
    Standing,
    app_name,
    deployment,
    function_of,
    owner_mark,
    owner_of,
    stale,
)
from theory_core import TheoryError

REGISTRY = Path(theory_api.__file__).parents[2] / "registry"
DIGEST = "sha256:" + "ab" * 32
REF = st.from_regex(r"[a-z][a-z0-9]{0,30}/[a-z][a-z0-9-]{0,62}@[1-9][0-9]{0,3}", fullmatch=True)
NAME = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9]")


def test_names_are_those_of_the_contract() -> None:
    assert app_name("llm/litellm@1") == "llm-litellm-v1"
    owner = owner_of("Ada.L", "feature/New_Thing")
    assert owner == "ada-l-feature-new-thing"
    assert app_name("llm/litellm@1", owner) == "ada-l-feature-new-thing-llm-litellm-v1"
    assert owner_of("", "") == "somebody-detached"


@given(ref=REF, other=REF, user=st.text(max_size=40), branch=st.text(max_size=80))
def test_every_name_is_one_that_a_cloud_takes(ref: str, other: str, user: str, branch: str) -> None:
    owner = owner_of(user, branch)
    name = app_name(ref, owner)
    assert NAME.fullmatch(name)
    assert len(name) <= NAME_LENGTH
    assert app_name(ref, owner) == name
    assert (app_name(other, owner) == name) == (ref == other)


def test_a_mode_has_its_function() -> None:
    assert (function_of("mock"), function_of("real")) == ("mock", "run")


def test_a_deployment_names_the_image_by_its_digest_and_states_the_limits_of_the_spec() -> None:
    spec = load_registry(REGISTRY).processor("llm/litellm@1")
    made = deployment(spec, app="a", image_digest=DIGEST)
    assert made.image == f"theory/llm-litellm-v1@{DIGEST}"
    assert (made.cpu_milli, made.memory_mib, made.timeout_s) == (1000, 1024, 160)
    assert made.secrets_required == ("OPENAI_API_KEY",)


@pytest.mark.parametrize("digest", [None, "latest", "sha256:" + "A" * 64, "b3:" + "a" * 64])
def test_nothing_is_deployed_without_a_digest(digest: str | None) -> None:
    spec = load_registry(REGISTRY).processor("llm/litellm@1")
    with pytest.raises(TheoryError) as refused:
        deployment(spec, app="a", image_digest=digest)
    assert refused.value.code == "ERR_IMAGE_UNPINNED"
    assert "image not pinned" in refused.value.message


def left(ref: str, owner: str = "ada-main", app: str = "") -> Standing:
    return Standing(app=app or app_name(ref, owner), ref=ref, owner=owner_mark(owner))


KNOWN = ("media/frames@1", "media/frames@2", "media/probe@1")


@pytest.mark.parametrize(
    ("apps", "expected"),
    [
        ((), ()),
        ((left("media/probe@1"), left("media/frames@1")), ()),
        ((left("media/gone@1"),), (("media/gone@1", "not in the registry"),)),
        ((left("media/frames@1"), left("media/frames@2")), (("media/frames@1", "@2 is deployed"),)),
        # A newer version that the registry does not know takes nobody's place.
        ((left("media/probe@1"), left("media/probe@2")), (("media/probe@2", "not in the"),)),
        # Others' apps: another person, CI, another branch that continues this one's name.
        ((left("media/gone@1", "bob-main"),), ()),
        ((left("media/gone@1", ""),), ()),
        ((left("media/gone@1", "ada-main-media"),), ()),
        # What is not called as its marks say was marked by somebody else.
        ((left("media/gone@1", app="somebodys-app"),), ()),
        ((left("media/gone@1", "bob-main", app="ada-main-media-gone-v1"),), ()),
    ],
)
def test_what_nothing_here_deploys_any_more_is_stale(
    apps: tuple[Standing, ...], expected: tuple[tuple[str, str], ...]
) -> None:
    found = stale(apps, KNOWN, owner="ada-main")
    assert [one.ref for one, _ in found] == [ref for ref, _ in expected]
    for (_, reason), (_, words) in zip(found, expected, strict=True):
        assert words in reason


def test_what_ci_deploys_is_collected_by_ci_alone() -> None:
    # Called like a processor of CI's: ada/main-gone@1.
    persons = left("media/gone@1", "ada-main")
    cis = left("media/gone@1", "")
    assert [one for one, _ in stale((persons, cis), KNOWN, owner="")] == [cis]


def test_an_owner_whose_name_is_too_long_is_marked_by_its_digest() -> None:
    one, other = "ada-" + "x" * 80, "ada-" + "x" * 81
    assert len(owner_mark(one)) <= 63
    assert owner_mark(one) != owner_mark(other)
    assert owner_mark("ada-main") == "ada-main"
    assert owner_mark("") != owner_mark(".")
    apps = (left("media/gone@1", one), left("media/gone@1", other))
    assert [found.owner for found, _ in stale(apps, KNOWN, owner=one)] == [owner_mark(one)]
