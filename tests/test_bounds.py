"""Requests for more than a machine has are refused before any work, and plausible requests pass."""

from __future__ import annotations

import os

import pytest
import torch

from archgrad import data
from archgrad.arch.genotype import Genotype
from archgrad.compare.study import seeds_of
from archgrad.cost import process_memory
from archgrad.data import places
from archgrad.data.batches import search_data
from archgrad.errors import LONGEST, short_repr, shortened, unknown_name
from archgrad.run import catalogue
from archgrad.spaces import SPACES, space


@pytest.mark.parametrize("name", SPACES)
def test_a_network_that_no_memory_holds_is_refused(name, monkeypatch):
    with pytest.raises(ValueError, match="channels must be at most 4,096, not 100000000000"):
        space(name, channels=100_000_000_000)
    with pytest.raises(ValueError, match=f"space {name}: channels must be at most"):
        catalogue.check_space(name, {"channels": 100_000_000_000})
    monkeypatch.setattr(process_memory, "available_bytes", lambda: 10**9)
    with pytest.raises(
        ValueError,
        match=r"the weights of a network of 4,096 channels.* take .*B, and there is room for 1\.0 GB",
    ):
        process_memory.check_memory(space(name, channels=4096))


def test_networks_that_somebody_may_want_pass(monkeypatch):
    for name in SPACES:
        process_memory.check_memory(space(name))
    monkeypatch.setattr(process_memory, "available_bytes", lambda: 64 * 10**9)
    process_memory.check_memory(space("nasbench201", channels=256))
    process_memory.check_memory(space("nasbench201", channels=16, classes=21_841))
    process_memory.check_memory(space("nasbench201", channels=16, classes=100_000))


def test_a_share_that_leaves_no_image_is_refused():
    images = data.load("digits", report=lambda line: None)
    for share, half in ((1e-300, "weights"), (1 - 1e-16, "alphas")):
        with pytest.raises(
            ValueError, match=f"data.share .* of 1,438 images leaves none for {half}"
        ):
            search_data(images, share=share)


@pytest.mark.parametrize("given", [10**11, 10**30, "100000000000", [0] * 20_000])
def test_studies_without_end_are_refused(given):
    with pytest.raises(ValueError, match="seeds: at most 10,000, not "):
        seeds_of(given)


@pytest.mark.parametrize(
    "text",
    ["(" + "-" * 50_000 + "1)", "(a" + ".a" * 50_000 + ")", "Genotype(normal=range('a'))", "Genotype(normal=range(1.5))",
     "{[1]: 2}", "[" * 100_000,
     '{"a":' * 100_000, "(" * 10**7, "('\\d', 1)", "Genotype(normal=[('x', 1)])" + " " * 10**6],
)  # fmt: skip
def test_a_genotype_that_is_none_is_refused_at_once(text, recwarn):
    with pytest.raises(ValueError) as caught:
        Genotype.parse(text)
    assert len(str(caught.value)) < LONGEST and "\n" not in str(caught.value) and not recwarn


def test_a_class_folder_that_is_no_text_is_named(tmp_path):
    os.makedirs(os.path.join(os.fsencode(tmp_path), b"train", b"caf\xe9"))
    with pytest.raises(
        ValueError, match=r"class folder 'caf\\udce9' in .* is no text in UTF-8: rename the folder"
    ) as caught:
        places.check_images(tmp_path)
    str(caught.value).encode()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "café").mkdir()
    places.check_images(tmp_path / "own")


def test_values_are_shown_in_few_characters():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (
        "x" * 10**6,
        deep,
        10**5000,
        {str(i): [i] * 99 for i in range(999)},
        b"x" * 10**6,
        torch.zeros(9999),
    ):
        assert len(short_repr(value)) <= 120
    assert [short_repr(value) for value in ("many", -1, None, [1, 2], {"a": 1})] == [
        "'many'",
        "-1",
        "None",
        "[1, 2]",
        "{'a': 1}",
    ]
    while deep:  # or the interpreter frees it too deeply
        (deep,) = deep  # type: ignore[assignment]


def test_a_long_complaint_keeps_its_ends():
    assert shortened("short") == "short"
    found = shortened("a" * 500 + "b" * 500)
    assert (
        len(found) == LONGEST
        and found.startswith("aaa")
        and found.endswith("bbb")
        and " ... " in found
    )
    assert (
        len(str(unknown_name("thing", "x" * 10**6, [f"choice {i}" for i in range(1000)]))) < LONGEST
    )
