"""What is written down of waiting containers: who has one is known whatever happens meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.docker.loans import Loans
from theory_core import TheoryError, canonicalize

KIND = {"ref": "test/deeds@1", "image": "sha256:1"}
FACTS = {**KIND, "container": "c1", "pid": 7, "tenant": ""}


def unmarked(_name: str) -> None:
    """Nothing is marked."""


@pytest.fixture
def loans(tmp_path: Path) -> Loans:
    """One container that waits, `w1`."""
    made = Loans(tmp_path)
    lock = made.lock("w1", make=True)
    assert lock is not None
    made.write("w1", FACTS)
    os.close(lock)
    return made


def taken(loans: Loans, borrower: str, **given: Any) -> bool:  # noqa: ANN401
    """Take one and let go of its lock, as a borrower that dies does; whether it was free."""
    found = loans.take(KIND, borrower, given.get("tenant", ""), given.get("mark", unmarked))
    assert found is not None
    os.close(found.lock)
    return found.free


def test_the_borrower_is_known_from_the_loan_to_the_return(loans: Loans) -> None:
    known: list[Any] = []
    assert taken(loans, "x1", mark=lambda name: known.append(loans.read(name)["borrower"]))
    assert known == ["x1"]
    assert loans.read("w1") == {**FACTS, "borrower": "x1"}
    assert not taken(loans, "x2")
    assert loans.read("w1")["borrower"] == "x1"
    loans.take_back("w1")
    loans.take_back("w1")
    assert taken(loans, "x2")


def test_one_that_cannot_be_marked_is_nobodys(loans: Loans) -> None:
    def refuses(_name: str) -> None:
        raise TheoryError("ERR_STORAGE", "no")

    with pytest.raises(TheoryError, match="ERR_STORAGE"):
        loans.take(KIND, "x1", "", refuses)
    assert loans.read("w1")["borrower"] == ""
    lock = loans.lock("w1")
    assert lock is not None
    os.close(lock)


def test_a_lock_that_is_held_passes_it_by(loans: Loans) -> None:
    lock = loans.lock("w1")
    assert lock is not None
    assert loans.take(KIND, "x1", "", unmarked) is None
    os.close(lock)
    assert loans.take({**KIND, "image": "sha256:2"}, "x1", "", unmarked) is None


def test_the_first_tenant_is_the_only_one(loans: Loans) -> None:
    assert taken(loans, "x1", tenant="acme")
    loans.take_back("w1")
    assert loans.take(KIND, "x2", "umbra", unmarked) is None
    assert loans.take(KIND, "x2", "", unmarked) is None
    assert taken(loans, "x2", tenant="acme")


def test_what_an_earlier_version_wrote_is_lent_to_nobody(loans: Loans, tmp_path: Path) -> None:
    (tmp_path / "w1.json").write_bytes(canonicalize({**FACTS, "borrower": "x0"}))
    assert not taken(loans, "x1")


def test_what_cannot_be_read_is_not_lent(loans: Loans, tmp_path: Path) -> None:
    (tmp_path / "w1.by").mkdir()
    assert loans.read("w1") == {}
    assert loans.take(KIND, "x1", "", unmarked) is None


def test_what_cannot_be_written_has_a_code(tmp_path: Path) -> None:
    nowhere = Loans(tmp_path / "nowhere")
    assert nowhere.names() == []
    assert nowhere.read("w1") == {}
    with pytest.raises(TheoryError, match="ERR_STORAGE"):
        nowhere.write("w1", FACTS)
    with pytest.raises(TheoryError, match="ERR_STORAGE"):
        nowhere.lend("w1", "x1")


def test_a_container_that_is_forgotten_leaves_nothing(loans: Loans, tmp_path: Path) -> None:
    (tmp_path / "w1").mkdir()
    assert taken(loans, "x1")
    loans.forget("w1")
    assert not tmp_path.exists()
