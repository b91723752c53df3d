"""Batches of a search or a retraining, each a function of (seed, split, epoch, step)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from archgrad import errors
from archgrad.arch.passes import Batch
from archgrad.arguments import named_if_wrong
from archgrad.data.augment import Augment
from archgrad.data.dataset import Dataset, Images, absence_notes, check_dataset
from archgrad.data.preprocess import LARGE, Preprocess
from archgrad.data.split import others, stratified
from archgrad.seeds import generator

CHARACTERS = {"digits", "mnist", "ylecun/mnist"}
"""Data sets of characters, which must not be mirrored."""


@dataclass(frozen=True, eq=False)
class Split:
    """Some images of a data set.

    Attributes:
        images: Images of the set.
        places: Indices (n,) of the split's images among them.
        augment: Augmentation by `Data.batches`; None is none.
    """

    images: Images
    places: Tensor
    augment: Augment | None = None

    @property
    def labels(self) -> Tensor:
        """Return the labels (n,), int64."""
        return self.images.labels[self.places]


@dataclass(frozen=True, eq=False)
class Data:
    """Splits of a data set, from which batches are read.

    Every order and every augmentation is drawn from its place in the run, so there is no state to
    save.

    Attributes:
        dataset: The data set.
        splits: Name -> split.
        batch: Batch size.
        seed: Seed of all draws.
        device: Device of the batches.
        workers: Number of threads that read ahead; 0 is none.
        notes: Remarks on the splits, for people.
    """

    dataset: Dataset
    splits: Mapping[str, Split]
    batch: int
    seed: int
    device: torch.device
    workers: int = 0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = ", ".join(f"{self.count(name):,} {name}" for name in self.splits)
        about = f"{parts}, batch {self.batch}, seed {self.seed}, {self.device}"
        return f"<Data of {self.dataset.name}: {about}>"

    @property
    def preprocess(self) -> Preprocess:
        """Return size, statistics and class names of the images."""
        return self.dataset.preprocess

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.dataset.classes

    @property
    def in_channels(self) -> int:
        """Return the number of channels of an image."""
        return self.dataset.in_channels

    @property
    def size(self) -> int:
        """Return the side of an image in pixels."""
        return self.dataset.size

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean of each channel, of values from 0 to 1."""
        return self.dataset.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Return the standard deviation of each channel, of values from 0 to 1."""
        return self.dataset.std

    def count(self, split: str = "train") -> int:
        """Return the number of images of a split."""
        return len(self._split_named(split).places)

    def steps(self, split: str = "train") -> int:
        """Return the number of batches in an epoch, without an incomplete last batch.

        A split that is smaller than the batch size has one batch.
        """
        return self.count(split) // min(self.batch, self.count(split))

    def batches(
        self, split: str = "train", epoch: int = 0, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """Yield augmented batches of an epoch, on the device.

        The order is a permutation drawn from (seed, split, epoch), the augmentation of a batch is
        drawn from (seed, split, epoch, step). So ``batches(start=k)`` equals ``batches()`` without
        its first k batches, bit for bit. After the end of the split another permutation follows.

        Args:
            split: Name of the split.
            epoch: The epoch, counted from 0.
            start: The first step.
            steps: Number of batches. None yields all that are left of the epoch.

        Yields:
            Images (B, C, size, size), float32; labels (B,); indices (B,) within the split.
        """
        part = self._split_named(split)
        plan = range(start, self.steps(split) if steps is None else start + steps)
        for step, (index, pixels) in zip(
            plan, self._read_pixels(part, self._batch_indices(split, epoch, plan))
        ):
            if part.augment is None:
                images = self.preprocess.crop_and_normalise(pixels)
            else:
                images = part.augment(
                    pixels, self.preprocess, self.seed, f"augment/{split}", epoch, step
                )
            yield self._make_batch(part, index, images)

    def evaluation(
        self, split: str = "test", batch: int = 256, limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield batches in which each image occurs once, without augmentation.

        The order is random and always the same: with folders sorted by class, a batch of one class
        would distort the statistics of BatchNorm. The last batch may be smaller, but it never holds
        a single image, for which BatchNorm in training mode has no statistics.

        Args:
            split: Name of the split.
            batch: Batch size.
            limit: Number of images, chosen so that each class keeps its share. None takes all.
        """
        part = self._split_named(split)
        index = torch.arange(len(part.places))
        if limit is not None and limit < len(index):
            index = stratified(part.labels, limit, self.seed, f"evaluation/{split}")
        index = index[
            torch.randperm(len(index), generator=generator(self.seed, f"order/evaluation/{split}"))
        ]
        *parts, last = index.split(batch)
        if parts and len(last) == 1 < batch:
            last = torch.cat([parts.pop(), last])
        for chosen, pixels in self._read_pixels(part, (*parts, last)):
            yield self._make_batch(part, chosen, self.preprocess.crop_and_normalise(pixels))

    def summary(self) -> dict[str, Any]:
        """Return the content of ``data.json``: the set, the splits and the preprocessing."""
        return {
            "name": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "preprocess": self.preprocess.to_json(),
            "statistics": self.dataset.statistics,
            "splits": {name: len(split.places) for name, split in self.splits.items()},
            "per_class": {
                name: torch.bincount(split.labels, minlength=len(self.classes)).tolist()
                for name, split in self.splits.items()
            },
            "batch": self.batch,
            "seed": self.seed,
            "notes": [*self.dataset.notes, *self.notes],
            **({"unreadable": list(self.dataset.unreadable)} if self.dataset.unreadable else {}),
        }

    def _split_named(self, name: str) -> Split:
        if name not in self.splits:
            raise errors.unknown_name("split", name, self.splits)
        return self.splits[name]

    def _batch_indices(self, split: str, epoch: int, plan: range) -> Iterator[Tensor]:
        """Yield the indices of each batch within the split; each pass has another permutation."""
        count, length = self.count(split), self.steps(split)
        size = min(self.batch, count)
        order, drawn = torch.arange(count), -1
        for lap, position in (divmod(step, length) for step in plan):
            if lap != drawn:
                order = torch.randperm(
                    count, generator=generator(self.seed, f"order/{split}", epoch, lap)
                )
                drawn = lap
            yield order[position * size : (position + 1) * size]

    def _read_pixels(
        self, part: Split, choices: Iterable[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices within the split and their pixels (B, C, H, W) on the device.

        With workers, threads read ahead. Images are decoded already, so a worker only copies
        memory, which releases the interpreter lock. Threads therefore suffice: the processes of a
        DataLoader would pickle the images and draw from the global generator.
        """
        if not self.workers:
            for index in choices:
                yield index, part.images.pixels(part.places[index]).to(self.device)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[Any] = deque()
            for index in choices:
                ahead.append((index, pool.submit(part.images.pixels, part.places[index])))
                if len(ahead) > 2 * self.workers:
                    ready, pixels = ahead.popleft()
                    yield ready, pixels.result().to(self.device)
            for ready, pixels in ahead:
                yield ready, pixels.result().to(self.device)

    def _make_batch(self, part: Split, index: Tensor, images: Tensor) -> Batch:
        return Batch(images, part.labels[index].to(self.device), index.to(self.device))


@named_if_wrong
def search_data(
    dataset: Dataset,
    *,
    batch: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    share: float = 0.5,
    augment: bool = True,
    cutout: int | None = 0,
    flip: bool | None = None,
    jitter: float = 0.0,
    workers: int = 0,
) -> Data:
    """Return the splits of a search: "train" for the weights, "val" for the alphas, and "test".

    The validation images of a set are "val", and all training images are "train". A set without
    validation images is divided class by class.

    Args:
        dataset: The images, as `archgrad.data.load` returns them.
        batch: Batch size of each split.
        seed: Seed of the division and of all batches.
        device: Device of the batches.
        limit: Number of images of "train" and of "val", for a reduced run. Each class keeps its
            share. None takes all.
        share: Share of the training images that become "train" where the set has no validation
            images.
        augment: Whether to augment the batches of both splits.
        cutout: Side of the erased square in pixels. None is half the side of images below 96
            pixels, and 0 for larger images.
        flip: Whether to mirror images. None mirrors all images but characters.
        jitter: Strength of colour jitter, for RGB images only.
        workers: Number of threads that read ahead.

    Raises:
        ValueError: An argument is out of range, or a split would be empty.
    """
    check_dataset(dataset)
    if not 0 < share < 1:
        raise ValueError(
            f"the share of the search split that trains weights must lie between 0 and 1, "
            f"not {share}"
        )
    if dataset.val is None:
        places = _divide(dataset, limit, share, seed)
        splits = {name: (dataset.train, chosen) for name, chosen in places.items()}
    else:
        first, second = _choose_training(dataset, limit, seed), torch.arange(len(dataset.val))
        if limit is not None and limit < len(second):
            second = stratified(dataset.val.labels, limit, seed, "limit/val")
        splits = {"train": (dataset.train, first), "val": (dataset.val, second)}
    notes: list[str] = []
    for name, (images, chosen) in splits.items():
        where = f"the {name} half" if dataset.val is None else name
        notes += [
            f"{line} in {where}"
            for line in absence_notes("image", images.subset(chosen), dataset.classes)
        ]
    reading = _augmentation(dataset, augment, cutout, flip, jitter)
    return _make_data(
        dataset,
        {name: Split(*part, reading) for name, part in splits.items()},
        batch,
        seed,
        device,
        workers,
        tuple(notes),
    )


def _divide(dataset: Dataset, limit: int | None, share: float, seed: int) -> dict[str, Tensor]:
    """Return the indices of the images for the weights and of those for the alphas."""
    chosen = _choose_training(dataset, limit, seed, parts=2)
    first = stratified(dataset.train.labels[chosen], round(share * len(chosen)), seed, "split")
    halves = {"train": chosen[first], "val": chosen[others(first, len(chosen))]}
    if not all(map(len, halves.values())):
        empty = "alphas" if len(first) else "weights"
        raise ValueError(f"data.share {share:g} of {len(chosen):,} images leaves none for {empty}")
    return halves


@named_if_wrong
def retrain_data(
    dataset: Dataset,
    *,
    batch: int = 96,
    seed: int = 0,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    augment: bool = True,
    cutout: int | None = None,
    flip: bool | None = None,
    jitter: float = 0.0,
    workers: int = 0,
) -> Data:
    """Return the splits of a retraining: "train", "test" and, for a set with such images, "val".

    Args:
        dataset: The images, as `archgrad.data.load` returns them.
        batch: Batch size.
        seed: Seed of the batches and of the choice of images.
        device: Device of the batches.
        limit: Number of training images. Each class keeps its share. None takes all.
        augment: Whether to augment training batches.
        cutout: As in `search_data`.
        flip: As in `search_data`.
        jitter: As in `search_data`.
        workers: Number of threads that read ahead.

    Raises:
        ValueError: An argument is out of range.
    """
    check_dataset(dataset)
    splits = {
        "train": Split(
            dataset.train,
            _choose_training(dataset, limit, seed),
            _augmentation(dataset, augment, cutout, flip, jitter),
        )
    }
    if dataset.val is not None:
        splits["val"] = Split(dataset.val, torch.arange(len(dataset.val)))
    return _make_data(dataset, splits, batch, seed, device, workers)


def _choose_training(dataset: Dataset, limit: int | None, seed: int, parts: int = 1) -> Tensor:
    """Return the indices of ``limit`` training images for each of ``parts``."""
    count = len(dataset.train)
    if limit is None:
        return torch.arange(count)
    least, most = 2 * len(dataset.classes) // parts, count // parts
    if not least <= limit <= most:
        raise ValueError(
            f"the limit must lie between {least} (two images a class in all) "
            f"and {most} (all of them), not {limit}"
        )
    return stratified(dataset.train.labels, parts * limit, seed, "limit")


def _augmentation(
    dataset: Dataset, augment: bool, cutout: int | None, flip: bool | None, jitter: float
) -> Augment | None:
    if not augment:
        return None
    large = dataset.size >= LARGE
    side = (0 if large else dataset.size // 2) if cutout is None else cutout
    if not 0 <= side < dataset.size:
        raise ValueError(
            f"cutout must be at least 0 and less than the image side {dataset.size}, not {side}"
        )
    if jitter and dataset.in_channels == 1:
        raise ValueError("jitter changes colours, the images are grey: set it to 0")
    mirrored = dataset.name not in CHARACTERS if flip is None else flip
    return Augment(0 if large else dataset.size // 8, large, mirrored, side, jitter)


def _make_data(
    dataset: Dataset,
    splits: dict[str, Split],
    batch: int,
    seed: int,
    device: torch.device | str,
    workers: int,
    notes: tuple[str, ...] = (),
) -> Data:
    if batch < 1:
        raise ValueError(f"the batch size must be at least 1, not {batch}")
    if workers < 0:
        raise ValueError(f"the number of workers must be at least 0, not {workers}")
    device = torch.device(device)
    splits = {**splits, "test": Split(dataset.test, torch.arange(len(dataset.test)))}
    # Splits that share a store move it once.
    stores = {id(part.images.store): part.images.to(device).store for part in splits.values()}
    moved = {
        name: replace(part, images=replace(part.images, store=stores[id(part.images.store)]))
        for name, part in splits.items()
    }
    return Data(dataset, moved, batch, seed, device, workers, notes)
