"""Find and remove images whose file occurs in two parts of a data set, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from archgrad.data.dataset import Images

NAMES = ("training", "test", "validation")


class Part(NamedTuple):
    """Images of a part of a data set, and the digests (N, 32), uint8, of their files."""

    images: Images
    digests: np.ndarray


def are_shared(part: Part, others: Iterable[Part]) -> Tensor:
    """Return which images (N,), bool, of a part also occur in the other parts."""
    known = {digest.tobytes() for other in others for digest in other.digests}
    return torch.tensor([digest.tobytes() in known for digest in part.digests], dtype=torch.bool)


def duplicate_notes(parts: Sequence[Part]) -> list[str]:
    """Return a sentence for each two parts that share images, with the number of shared images.

    Args:
        parts: Training images, test images and, if there are any, validation images.
    """
    notes = []
    for one, other in ((1, 0), (2, 0), (1, 2)):
        if max(one, other) >= len(parts):
            continue
        if count := int(are_shared(parts[one], [parts[other]]).sum()):
            notes.append(
                f"{count:,} of {len(parts[one].images):,} {NAMES[one]} images are {NAMES[other]} "
                "images as well, byte for byte: --data.drop-duplicates leaves them out of the "
                f"{NAMES[other]} images"
            )
    return notes


def without_duplicates(parts: Sequence[Part]) -> tuple[list[Part], list[str]]:
    """Leave out training images of another part, and validation images that are test images.

    Test images stay, so that accuracies can be compared.

    Args:
        parts: Training images, test images and, if there are any, validation images.

    Returns:
        The parts, and a sentence for each part that lost images.

    Raises:
        ValueError: A part would be empty.
    """
    kept, notes = list(parts), []
    for place, others in ((0, parts[1:]), (2, parts[1:2])):
        if place < len(parts):
            twice = are_shared(parts[place], others)
            rest = torch.nonzero(~twice).flatten()
            if not len(rest):
                raise ValueError(
                    f"data.drop_duplicates leaves no {NAMES[place]} image: "
                    "all of them are in another part of the data as well"
                )
            if count := len(twice) - len(rest):
                kept[place] = Part(
                    parts[place].images.subset(rest), parts[place].digests[rest.numpy()]
                )
                names = " or ".join(NAMES[1 : 1 + len(others)])
                notes.append(
                    f"{count:,} {NAMES[place]} images are left out: they are {names} images as well"
                )
    return kept, notes
