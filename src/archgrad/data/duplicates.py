"""Images that are in two parts of a data set, known by the bytes of their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from archgrad.data.dataset import Images

NAMES = ("training", "test", "validation")


class Part(NamedTuple):
    """Images and the digests of their files, uint8 (N, 32)."""

    images: Images
    digests: np.ndarray


def shared(part: Part, others: Iterable[Part]) -> Tensor:
    """Which images of ``part`` are images of the others as well: bool (N,)."""
    known = {digest.tobytes() for other in others for digest in other.digests}
    return torch.tensor([digest.tobytes() in known for digest in part.digests], dtype=torch.bool)


def counted(parts: Sequence[Part]) -> list[str]:
    """How many images two parts share, in words.

    Args:
        parts: The training images, the test images and, where there are any, the validation images.

    Returns:
        A sentence for each two parts that share images; none where no parts do.
    """
    said = []
    for one, other in ((1, 0), (2, 0), (1, 2)):
        if max(one, other) < len(parts) and (
            count := int(shared(parts[one], [parts[other]]).sum())
        ):
            twice = f"{count:,} of {len(parts[one].images):,} {NAMES[one]} images are {NAMES[other]} images as well, byte for byte"
            said.append(
                f"{twice}: --data.drop-duplicates leaves them out of the {NAMES[other]} images"
            )
    return said


def dropped(parts: Sequence[Part]) -> tuple[list[Part], list[str]]:
    """The parts without training images that are in another part, and without validation images that are test images.

    Args:
        parts: As `counted` takes them.

    Returns:
        The parts; the test images stay as they are, so that accuracies can be compared. And how many images were left out, in words.

    Raises:
        ValueError: No image of a part is left.
    """
    kept, said = list(parts), []
    for place, others in ((0, parts[1:]), (2, parts[1:2])):
        if place < len(parts):
            twice = shared(parts[place], others)
            rest = torch.nonzero(~twice).flatten()
            if not len(rest):
                raise ValueError(
                    f"data.drop_duplicates leaves no {NAMES[place]} image: all of them are in another part of the data as well"
                )
            if count := len(twice) - len(rest):
                kept[place] = Part(
                    parts[place].images.subset(rest), parts[place].digests[rest.numpy()]
                )
                said.append(
                    f"{count:,} {NAMES[place]} images are left out: they are {' or '.join(NAMES[1 : 1 + len(others)])} images as well"
                )
    return kept, said
