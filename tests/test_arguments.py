"""Wrong types at the public names are a ValueError of one line, never a TypeError of Python."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from torch.nn import Identity

import archgrad
from archgrad.arguments import named_if_wrong

STUB = Path(archgrad.__file__).with_suffix(".pyi")
IMAGES = np.zeros((20, 8, 8), np.uint8)


@pytest.fixture(scope="module")
def digits():
    return archgrad.dataset(IMAGES, np.arange(20) % 2)


@pytest.fixture(scope="module")
def space():
    return archgrad.space("nasbench201", channels=2, cells=1, classes=2, in_channels=1)


WRONG = {
    "Genotype": [
        (lambda **_: archgrad.Genotype.parse(5), "the text of a genotype is expected, not 5"),
        (lambda **_: archgrad.Genotype("text"), "Genotype.parse reads a text"),
    ],
    "Mixture": [(lambda **_: archgrad.Mixture(3), "are a mapping from group to tensor, not 3")],
    "dataset": [
        (lambda **_: archgrad.dataset(IMAGES, ["a", "b"]), "classes= takes the names"),
        (lambda **_: archgrad.dataset(IMAGES), "need labels"),
        (
            lambda **_: archgrad.dataset(IMAGES, np.arange(20) % 2, size="8"),
            "dataset: size must be a whole number or None, not '8'",
        ),
    ],
    "search_data": [
        (
            lambda digits, **_: archgrad.search_data(digits, batch="8"),
            "search_data: batch must be a whole number, not '8'",
        ),
        (
            lambda digits, **_: archgrad.search_data(digits, bach=8),
            "unknown argument of search_data 'bach': did you mean 'batch'?",
        ),
    ],
    "load": [(lambda **_: archgrad.load("digits", report=3), "load: report must be a function")],
    "method": [
        (lambda space, **_: archgrad.method(5, space), "the name of a method is expected"),
        (
            lambda space, **_: archgrad.method("darts", space, budget="5M"),
            "the patch of archgrad.methods.budget.budget is expected, not '5M'",
        ),
    ],
    "evaluate": [(lambda **_: archgrad.evaluate(5), "a path is expected")],
    "retrain": [(lambda **_: archgrad.retrain("darts"), "retrain: missing a required argument")],
    "predict": [
        (
            lambda **_: archgrad.predict("nowhere", ["x.png"], top="3"),
            "predict: top must be a whole number, not '3'",
        )
    ],
    "alphas": [(lambda **_: archgrad.alphas(5), "a path is expected")],
    "compose": [(lambda **_: archgrad.compose(3), "compose: patches must be a Patch, not 3")],
    "search": [
        (lambda **_: archgrad.search("darts", None, 1), "a method is expected"),
        (
            lambda digits, space, **_: archgrad.search(
                archgrad.method("darts", space), archgrad.search_data(digits, batch=4), "1"
            ),
            "a search needs whole epochs",
        ),
    ],
    "Method": [
        (
            lambda space, **_: archgrad.Method("darts", space),
            "Method: patch must be a Patch, not 'darts'",
        )
    ],
    "Patch": [
        (lambda **_: archgrad.Patch("x", nosuch=3), "unknown argument of Patch 'nosuch'"),
        (lambda **_: archgrad.Patch(), "Patch: missing a required argument: 'name'"),
    ],
    "Choice": [
        (lambda **_: archgrad.Choice(3), "a Choice needs a mapping"),
        (
            lambda **_: archgrad.Choice({"a": Identity(), "b": Identity()}, lable="x"),
            "unknown argument of Choice 'lable': did you mean 'label'?",
        ),
    ],
    "Repeat": [(lambda **_: archgrad.Repeat(3, 1, 2), "Repeat needs a function")],
    "InputChoice": [(lambda **_: archgrad.InputChoice(), "missing a required argument: 'inputs'")],
    "module_space": [
        (lambda **_: archgrad.module_space(), "module_space: missing a required argument"),
        (
            lambda **_: archgrad.module_space(Identity, clases=3),
            "unknown argument of module_space 'clases': did you mean 'classes'?",
        ),
    ],
    "Search": [
        (
            lambda **_: archgrad.Search("net", epochs=1, steps=1),
            "archgrad.module_space is expected",
        ),
        (lambda **_: archgrad.Search("net"), "Search: missing a required argument: 'epochs'"),
    ],
    "space": [(lambda **_: archgrad.space(["a"]), "space: name must be a text, not ['a']")],
}


def test_every_public_name_is_here():
    names = re.findall(r" as (\w+)$", STUB.read_text(), re.M)
    assert set(names) == WRONG.keys()


@pytest.mark.parametrize(
    ("call", "says"),
    [pytest.param(*case, id=name) for name, cases in WRONG.items() for case in cases],
)
def test_a_wrong_type_is_a_valueerror_of_one_line(digits, space, call, says):
    with pytest.raises(ValueError) as caught:
        call(digits=digits, space=space)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_error_inside_keeps_its_type_where_the_arguments_fit():
    @named_if_wrong
    def halve(value: int) -> str:
        return value / 2 + "x"

    with pytest.raises(TypeError):
        halve(np.int64(4))
    with pytest.raises(ValueError, match=r"halve: value must be a whole number, not None"):
        halve(None)
