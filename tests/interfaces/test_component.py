"""Parameters: the one number type for fractions."""

from __future__ import annotations

import pydantic
import pytest

import robustbench_med as rbmed


class Params(rbmed.Params):
    length: rbmed.Number = rbmed.Field(0.5, gt=0, le=1, description="A length.")
    other: rbmed.Number | None = rbmed.Field(None, description="Another length.")


@pytest.mark.parametrize(
    ("value", "expected"), [("4/255", 4 / 255), ("0.25", 0.25), ("1e-3", 1e-3), (0.75, 0.75), (1, 1.0), ("1.5/3", 0.5)]
)
def test_a_number_may_be_written_as_a_fraction(value: object, expected: float) -> None:
    assert Params.model_validate({"length": value}).length == expected
    assert Params.model_validate({"other": value}).other == expected


@pytest.mark.parametrize("value", ["1/0", "a/b", "1/2/3", "half", "3/2", "-1/2", "", None])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        Params.model_validate({"length": value})
