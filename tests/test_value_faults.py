"""Faults that a validator finds are told as expected and got, whatever their kind."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest

from modalign.core.errors import fault_sentence

pydantic = pytest.importorskip("pydantic", reason="the command line and the servers need it")
Color = Enum("Color", {"red": "red", "blue": "blue"})


class Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    rows: list[int]


FAULTS: dict[str, tuple[Any, Any, str]] = {
    "text for an integer": (int, "x", "Expected top as a whole number, got 'x'"),
    "a fraction for an integer": (int, 1.5, "Expected top as a whole number, got 1.5"),
    "text for a number": (float, "much", "Expected top as a number, got 'much'"),
    "text for a truth value": (bool, "perhaps", "Expected top as true or false, got 'perhaps'"),
    "a number for text": (str, 3, "Expected top as text, got 3"),
    "a number for a list": (list[int], 3, "Expected top as a list, got 3"),
    "a number for an object": (Body, 3, "Expected top as an object, got 3"),
    "below the least": (Annotated[int, pydantic.Field(ge=1)], 0, "Expected top of at least 1, got 0"),
    "above the largest": (Annotated[int, pydantic.Field(le=65535)], 99999, "Expected top of at most 65535, got 99999"),
    "on an open limit": (Annotated[float, pydantic.Field(lt=1)], 1.0, "Expected top of less than 1.0, got 1.0"),
    "on the other": (Annotated[float, pydantic.Field(gt=0)], 0.0, "Expected top of more than 0.0, got 0.0"),
    "none of the names": (Literal["given", "name"], "x", "Expected top as 'given' or 'name', got 'x'"),
    "none of the members": (Color, "x", "Expected top as 'red' or 'blue', got 'x'"),
    "nothing": (Body, {}, "Expected top, got none"),
    "a stranger": (Body, {"rows": [], "x": 1}, "Expected no top, which is unknown"),
    "long text": (Annotated[str, pydantic.Field(max_length=1)], "bb", "Expected top of at most 1 characters, got 'bb'"),
    "no entry": (Annotated[list[int], pydantic.Field(min_length=1)], [], "Expected top of at least 1 entries, got []"),
    "no number": (Annotated[float, pydantic.Field(lt=1)], "nan", "Expected top as a number, got 'nan'"),
    "a long text": (int, "x" * 99, f"Expected top as a whole number, got '{'x' * 60}…'"),
    "another kind": (Annotated[str, pydantic.Field(pattern="a")], "b", "Expected another value for top, got 'b'"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence_of_ours(case: str) -> None:
    kind, value, sentence = FAULTS[case]
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(kind).validate_python(value)
    assert fault_sentence("top", caught.value.errors()[0]) == sentence
