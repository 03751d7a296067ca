"""The one exception."""

import copy
import pickle

import pytest

import theory_core
from theory_core import TheoryError


def test_it_carries_code_message_and_detail() -> None:
    error = TheoryError("ERR_INPUTS", "no good", {"index": 3})
    assert (error.code, error.message, error.detail) == ("ERR_INPUTS", "no good", {"index": 3})
    assert str(error) == "ERR_INPUTS: no good"
    assert isinstance(error, ValueError)
    assert TheoryError("ERR_INPUTS", "no good").detail == {}


def test_it_survives_pickling_and_copying() -> None:
    error = TheoryError("ERR_INPUTS", "no good", {"index": 3})
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 - ours
        assert (other.code, other.message, other.detail) == (
            error.code,
            error.message,
            error.detail,
        )


def test_the_native_module_raises_this_very_class() -> None:
    with pytest.raises(TheoryError) as refusal:
        theory_core.canonicalize(object())
    assert type(refusal.value) is TheoryError
    assert refusal.value.args == (refusal.value.code, refusal.value.message, refusal.value.detail)
