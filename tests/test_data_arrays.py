"""Images of a script's memory are read as files are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import archgrad
from archgrad.data import load
from searching import run

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4
CELL = "|nor_conv_1x1~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"


class Items(torch.utils.data.Dataset):
    classes = ("ant", "bee", "cat", "dog")

    def __init__(self, made):
        self.made = made

    def __len__(self):
        return len(COLOUR)

    def __getitem__(self, index):
        return self.made(COLOUR[index]), int(LABELS[index])


FORMS = {
    "array": (COLOUR, LABELS),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), LABELS.tolist()),
    "tensor": (torch.from_numpy(COLOUR), torch.from_numpy(LABELS)),
    "floats": (torch.from_numpy(COLOUR).permute(0, 3, 1, 2).float() / 255, LABELS.astype(np.int32)),
    "pictures": (Items(Image.fromarray), None),
    "tensors": (Items(lambda image: torch.from_numpy(image).permute(2, 0, 1).float() / 255), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_set(form):
    images, labels = FORMS[form]
    found, first = (
        archgrad.dataset(images, labels, classes=Items.classes),
        archgrad.dataset(*FORMS["array"], classes=Items.classes),
    )
    assert (
        found.fingerprint == first.fingerprint
        and found.mean == first.mean
        and found.classes == Items.classes
    )
    assert (found.size, found.in_channels, len(found.train), len(found.test)) == (
        12,
        3,
        32,
        8,
    ) and found.test.counts(4) == [2] * 4
    assert torch.equal(found.train.pixels(torch.arange(32)), first.train.pixels(torch.arange(32)))
    whole = archgrad.dataset(
        *FORMS["array"], test=FORMS["tensor"] if labels is not None else Items(Image.fromarray)
    )
    assert len(whole.train) == len(whole.test) == 40
    assert torch.equal(
        whole.test.pixels(torch.tensor([3]))[0], torch.from_numpy(COLOUR[3]).permute(2, 0, 1)
    )


def test_the_digits_are_those_of_load():
    from archgrad.data.sources import digits_table

    levels, labels = digits_table()
    images = (levels.reshape(-1, 8, 8) * (255 / 16)).round().astype("uint8")
    found, loaded = (
        archgrad.dataset(images, labels.astype(int)),
        load("digits", report=lambda line: None),
    )
    assert (found.size, found.in_channels, found.mean, found.std) == (
        loaded.size,
        1,
        loaded.mean,
        loaded.std,
    )
    assert torch.equal(
        found.train.pixels(torch.arange(100)), loaded.train.pixels(torch.arange(100))
    )


def test_a_search_on_arrays():
    data = archgrad.search_data(archgrad.dataset(*FORMS["array"]), batch=4, seed=0)
    method = archgrad.method("darts", archgrad.space("nasbench201", channels=2, cells=1, classes=4))
    assert run(method, epochs=1, data=data).state.epoch == 1


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (COLOUR, None, "labels: tensors and arrays of images need labels"),
        (COLOUR, LABELS[:-1], "there are 40 images and 39 labels"),
        (COLOUR, LABELS / 2, "labels are whole numbers (N,), not float64 of (40,)"),
        (COLOUR, LABELS - 1, "labels are numbers from 0 to 2, one for each of 3 classes, not -1"),
        (COLOUR[:, :6], LABELS, "the image size must be at least 8, not 6"),
        (COLOUR * 2.0, LABELS, "floating-point pixels are from 0 to 1, not from 0.0 to 510.0"),
        (
            COLOUR.astype(np.int64),
            LABELS,
            "pixels are uint8 from 0 to 255 or floats from 0 to 1, not int64",
        ),
        (
            COLOUR[..., :2],
            LABELS,
            "an image has the shape (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels, not (12, 12, 2)",
        ),
        (
            COLOUR,
            LABELS * 0,
            "a search needs two classes with 2 training images each; of 1 classes '0' has 40",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(images, labels, says):
    with pytest.raises(ValueError) as caught:
        archgrad.dataset(images, labels)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_of_arrays_is_evaluated_on_them(tmp_path):
    images = archgrad.dataset(*FORMS["array"])
    cells = archgrad.space("nasbench201", channels=2, cells=1, classes=4)
    recipe = {"preset": "quick", "epochs": 1, "batch": 8, "channels": 2, "cells": 1}
    trained = archgrad.retrain(
        cells, CELL, images, recipe, tmp_path / "net", report=lambda line: None
    )
    found = archgrad.evaluate(tmp_path / "net", images)
    assert (found.accuracy, found.images) == (trained.accuracy, "arrays, test")
    with pytest.raises(
        ValueError,
        match=r"no such file or folder: arrays.* A data set in memory is an argument of archgrad\.evaluate",
    ):
        archgrad.evaluate(tmp_path / "net")
    with pytest.raises(
        ValueError,
        match=r"is not the data set .* \(the files, their labels or their order differ\)",
    ):
        archgrad.evaluate(tmp_path / "net", archgrad.dataset(255 - COLOUR, LABELS))
    with pytest.raises(
        ValueError, match="split: leave it out, because a data set in memory is evaluated"
    ):
        archgrad.evaluate(tmp_path / "net", images, split="train")
