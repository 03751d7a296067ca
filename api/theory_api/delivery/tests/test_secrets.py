"""Secrets that processors can do without are sent where they are, and missed nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.delivery.secrets import SecretsDelivery, Source, optional
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.vault import Held
from theory_core import TheoryError, canonicalize, loads_strict


class Kept:
    """A vault that holds what it is sent."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def standing(self, name: str) -> Held:
        return Held.THERE if name in self.values else Held.MISSING

    async def put(self, name: str, value: str) -> bool:
        new = name not in self.values
        self.values[name] = value
        return new

    async def close(self) -> None:
        pass


def registry() -> RegistrySnapshot:
    """NEEDED is required, SHARED by one processor alone, SPARE by none; UNNAMED is listed."""
    document: Any = loads_strict(snapshot().document)
    one, other = document["processors"].values()
    one["secrets"] = {"required": ["NEEDED", "SHARED"], "optional": ["SPARE"]}
    other["secrets"] = {"required": [], "optional": ["SHARED", "SPARE"]}
    listed = {"purpose": "Any.", "environments": ["dev"]}
    document["secrets"] = dict.fromkeys(("NEEDED", "SHARED", "SPARE", "UNNAMED"), listed)
    return RegistrySnapshot.from_document(canonicalize(document))


def keeper(*there: str) -> tuple[SecretsDelivery, Kept]:
    vault = Kept()
    source = Source({"dev": dict.fromkeys(there, "value")})
    return SecretsDelivery(registry(), source, lambda _environment: vault), vault


def test_what_one_processor_requires_is_not_optional_for_another() -> None:
    assert optional(registry()) == {"SPARE"}


@pytest.mark.parametrize("spare", [(), ("SPARE",)])
async def test_an_optional_secret_is_sent_if_it_is_there_and_missed_by_nobody_if_not(
    spare: tuple[str, ...],
) -> None:
    required = ("NEEDED", "SHARED", "UNNAMED")
    delivery, vault = keeper(*required, *spare)
    rehearsed = await delivery.sync("dev", dry_run=True)
    assert not vault.values
    sent = await delivery.sync("dev", dry_run=False)
    assert [one.name for one in sent] == [one.name for one in rehearsed]
    assert set(vault.values) == {*required, *spare}
    for asked in (True, False):
        seen = await delivery.check(["dev"], ask_vaults=asked)
        assert not any(one.missing for one in seen)
        assert [one.name for one in seen if one.optional] == ["SPARE"]


async def test_one_that_is_asked_for_by_name_or_required_by_anybody_has_to_be_there() -> None:
    delivery, vault = keeper("NEEDED", "UNNAMED")
    for only in (("SPARE",), ("SHARED",), ()):
        with pytest.raises(TheoryError) as refused:
            await delivery.sync("dev", only=only, dry_run=False)
        assert refused.value.code == "ERR_MISSING_SECRET"
    assert not vault.values
    seen = await delivery.check(["dev"], ask_vaults=True)
    assert [one.name for one in seen if one.missing] == ["NEEDED", "SHARED", "UNNAMED"]
