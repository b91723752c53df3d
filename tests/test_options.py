from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from archgrad.arch.space import AlphaSettings
from archgrad.errors import unknown_name
from archgrad.options import call, description, model


def function(*, count: Annotated[int, Field(ge=1)] = 2, names: tuple[str, ...] | None = None):
    return count, names


def test_values_are_converted_to_the_signature():
    assert call("f", function, {"count": "3", "names": ["a"]}) == (3, ("a",))
    assert call("alphas", AlphaSettings, {"lr": "1e-2"}).lr == 0.01
    assert call("f", function, {}) == (2, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"cuont": 1},
            r"unknown option of f 'cuont': did you mean 'count'\? \(there are: count, names\)",
        ),
        ({"count": 0}, "^f.count: Input should be greater than or equal to 1, not 0$"),
        ({"count": "many"}, "^f.count: .*, not 'many'$"),
        ({"names": 5}, "^f.names: .*, not 5$"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        call("f", function, given)
    assert "\n" not in str(caught.value)


def test_without_a_similar_name_no_name_is_suggested():
    assert (
        str(unknown_name("method", "zzz", ["darts", "random"]))
        == "unknown method 'zzz' (there are: darts, random)"
    )


def documented(
    *, count: int = 2, names: Annotated[tuple[str, ...], Field(description="their names")] = ()
):
    """The first line,
    and the second.

    Args:
        count: number of things,
            each of them counted once.
        names: a text that the type overrules.

    Returns:
        Nothing.
    """


def test_an_option_means_what_the_docstring_says_of_it_unless_its_type_does():
    fields = model(documented).model_fields
    assert fields["count"].description == "number of things, each of them counted once"
    assert fields["names"].description == "their names"
    assert model(function).model_fields["count"].description is None
    assert (
        description(documented) == "The first line,\nand the second."
        and description(function) == ""
    )


def test_the_attributes_of_a_dataclass_are_described():
    assert (
        model(AlphaSettings).model_fields["beta1"].description
        == "decay of Adam's mean of the gradients"
    )
