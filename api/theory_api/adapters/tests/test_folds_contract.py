"""What every store of folds does, whatever it is made of."""

from __future__ import annotations

from theory_api.adapters.conftest import CID, Story
from theory_api.adapters.tests.conftest import Machine, claimed
from theory_api.ports.folds import Fold, FoldStore

AT = "2026-11-21T04:25:00.000001Z"


def fold(plan: str, seq: int = 1, body: bytes = b"\x00state") -> Fold:
    return Fold(plan, seq, CID, AT, "b3:version", body)


async def _plans(machine: Machine, count: int) -> tuple[FoldStore, list[str]]:
    """A store with this many plans, and its folds."""
    store, epoch = await claimed(machine)
    names = [f"/world/acme/p{place}" for place in range(count)]
    await store.append([Story(name).created() for name in names], shard="s0", epoch=epoch)
    folds: FoldStore = store.folds  # type: ignore[attr-defined] # every store has its own
    return folds, names


async def test_a_fold_is_found_as_it_was_put_and_the_newest_replaces_the_others(
    machine: Machine,
) -> None:
    folds, (first, second) = await _plans(machine, 2)
    assert await folds.newest([first, second]) == {}
    await folds.put([fold(first), fold(second)])
    await folds.put([fold(first, 7, b"later")])
    assert await folds.newest([first, second]) == {
        first: fold(first, 7, b"later"),
        second: fold(second),
    }
    assert await folds.newest([second]) == {second: fold(second)}


async def test_what_was_dropped_is_gone_and_may_be_dropped_again(machine: Machine) -> None:
    folds, names = await _plans(machine, 2)
    await folds.put([fold(name) for name in names])
    for _ in range(2):
        await folds.drop(names[:1])
        assert list(await folds.newest(names)) == names[1:]
    await folds.put([fold(names[0], 3)])
    assert (await folds.newest(names))[names[0]].seq == 3


async def test_the_folds_of_many_plans_are_found_at_once(machine: Machine) -> None:
    folds, names = await _plans(machine, 150)
    await folds.put([fold(name, body=name.encode() * 100) for name in names])
    found = await folds.newest([*names, "/world/acme/nobody"])
    assert sorted(found) == sorted(names)
    assert all(kept.body == plan.encode() * 100 for plan, kept in found.items())


async def test_nothing_is_asked_for_nothing(machine: Machine) -> None:
    folds, _ = await _plans(machine, 1)
    assert await folds.newest([]) == {}
    await folds.put([])
    await folds.drop([])
