"""What a search and a retraining iterate: batches as a function of (seed, split, epoch, step), with no state to save."""

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
from archgrad.data.augment import Augment
from archgrad.data.dataset import Dataset, Images, absent, check_dataset
from archgrad.data.preprocess import LARGE, Preprocess
from archgrad.data.split import others, stratified
from archgrad.seeds import generator

CHARACTERS = {"digits", "mnist", "ylecun/mnist"}
"""Sets whose images mean something else in a mirror."""


@dataclass(frozen=True, eq=False)
class Split:
    """The images at ``places`` (n,) of a set; ``augment`` is what `Data.batches` does to them."""

    images: Images
    places: Tensor
    augment: Augment | None = None

    @property
    def labels(self) -> Tensor:
        return self.images.labels[self.places]


@dataclass(frozen=True, eq=False)
class Data:
    """Splits of one data set and how they are read. Every order and augmentation is drawn from its place in the run."""

    dataset: Dataset
    splits: Mapping[str, Split]
    batch: int
    seed: int
    device: torch.device
    workers: int = 0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = ", ".join(f"{self.count(name):,} {name}" for name in self.splits)
        return f"<Data of {self.dataset.name}: {parts}, batch {self.batch}, seed {self.seed}, {self.device}>"

    @property
    def preprocess(self) -> Preprocess:
        return self.dataset.preprocess

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def in_channels(self) -> int:
        return self.dataset.in_channels

    @property
    def size(self) -> int:
        return self.dataset.size

    @property
    def mean(self) -> tuple[float, ...]:
        return self.dataset.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.dataset.std

    def count(self, split: str = "train") -> int:
        """Images of a split."""
        return len(self._split(split).places)

    def steps(self, split: str = "train") -> int:
        """Batches of one epoch: the last, ragged one is dropped, unless it is the only one."""
        return self.count(split) // min(self.batch, self.count(split))

    def batches(
        self, split: str = "train", epoch: int = 0, start: int = 0, steps: int | None = None
    ) -> Iterator[Batch]:
        """``steps`` batches of an epoch from ``start`` on (by default those that are left of it), augmented, on the device.

        The order is a permutation drawn from (seed, split, epoch), the augmentation of a batch from (seed, split, epoch, step): so
        ``batches(start=k)`` is the tail of ``batches()``, bit for bit. Past the end of the split it goes on with another permutation.
        """
        part = self._split(split)
        plan = range(start, self.steps(split) if steps is None else start + steps)
        for step, (index, pixels) in zip(plan, self._read(part, self._order(split, epoch, plan))):
            if part.augment is None:
                images = self.preprocess.images(pixels)
            else:
                images = part.augment(
                    pixels, self.preprocess, self.seed, f"augment/{split}", epoch, step
                )
            yield self._batch(part, index, images)

    def evaluation(
        self, split: str = "test", batch: int = 256, limit: int | None = None
    ) -> Iterator[Batch]:
        """Every image once, as it is, the last batch ragged, but never a single image, whose statistics a BatchNorm cannot take; ``limit``
        takes a stratified choice of that many.

        The order is always the same, and random: where folders come class by class, a batch of one class would mislead BatchNorm.
        """
        part = self._split(split)
        index = torch.arange(len(part.places))
        if limit is not None and limit < len(index):
            index = stratified(part.labels, limit, self.seed, f"evaluation/{split}")
        index = index[
            torch.randperm(len(index), generator=generator(self.seed, f"order/evaluation/{split}"))
        ]
        *parts, last = index.split(batch)
        if parts and len(last) == 1 < batch:
            last = torch.cat([parts.pop(), last])
        for chosen, pixels in self._read(part, (*parts, last)):
            yield self._batch(part, chosen, self.preprocess.images(pixels))

    def summary(self) -> dict[str, Any]:
        """JSON-able: the set, the splits and the preprocessing, for the run folder."""
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

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise errors.unknown("split", name, self.splits)
        return self.splits[name]

    def _order(self, split: str, epoch: int, plan: range) -> Iterator[Tensor]:
        """The index within the split of each sample of each batch; each lap through the split has a permutation of its own."""
        count, laps = self.count(split), self.steps(split)
        size = min(self.batch, count)
        order, drawn = torch.arange(count), -1
        for lap, position in (divmod(step, laps) for step in plan):
            if lap != drawn:
                order = torch.randperm(
                    count, generator=generator(self.seed, f"order/{split}", epoch, lap)
                )
                drawn = lap
            yield order[position * size : (position + 1) * size]

    def _read(self, part: Split, choices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices within the split and their pixels (B, C, H, W) on the device, read ahead by threads where there are workers.

        Photos are decoded beforehand, so a worker copies memory, which releases the interpreter lock: threads do what a DataLoader's
        processes would, without pickling, and without its draw from the global generator.
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

    def _batch(self, part: Split, index: Tensor, images: Tensor) -> Batch:
        return Batch(images, part.labels[index].to(self.device), index.to(self.device))


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
    """Splits "train" (for the weights) and "val" (for the alphas), halves of the training images class by class, and "test".

    Of a set with validation images these are "val", and all training images are "train". Else ``share`` of the training images goes to
    "train". ``limit`` takes a stratified choice of that many per half beforehand (a reduced run).
    ``cutout`` None is half the image side below 96 pixels, and none from there on; ``flip`` None is: unless they are characters.
    """
    check_dataset(dataset)
    if not 0 < share < 1:
        raise ValueError(
            f"the share of the search split that trains weights must lie between 0 and 1, not {share}"
        )
    if dataset.val is None:
        places = _halves(dataset, limit, share, seed)
        splits = {name: (dataset.train, chosen) for name, chosen in places.items()}
    else:
        first, second = _limited(dataset, limit, seed), torch.arange(len(dataset.val))
        if limit is not None and limit < len(second):
            second = stratified(dataset.val.labels, limit, seed, "limit/val")
        splits = {"train": (dataset.train, first), "val": (dataset.val, second)}
    notes: list[str] = []
    for name, (images, chosen) in splits.items():
        where = f"the {name} half" if dataset.val is None else name
        notes += [
            f"{line} in {where}" for line in absent("image", images.subset(chosen), dataset.classes)
        ]
    reading = _augment(dataset, augment, cutout, flip, jitter)
    return _data(
        dataset,
        {name: Split(*part, reading) for name, part in splits.items()},
        batch,
        seed,
        device,
        workers,
        tuple(notes),
    )


def _halves(dataset: Dataset, limit: int | None, share: float, seed: int) -> dict[str, Tensor]:
    """The training images that train the weights, and those that move the alphas."""
    chosen = _limited(dataset, limit, seed, parts=2)
    first = stratified(dataset.train.labels[chosen], round(share * len(chosen)), seed, "split")
    halves = {"train": chosen[first], "val": chosen[others(first, len(chosen))]}
    if not all(map(len, halves.values())):
        raise ValueError(
            f"data.share {share:g} of {len(chosen):,} images leaves none for {'weights' if not len(first) else 'alphas'}"
        )
    return halves


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
    """Splits "train" (all training images, or a stratified ``limit`` of them), "test", and "val" where the set has validation images; options
    as in `search_data`."""
    check_dataset(dataset)
    splits = {
        "train": Split(
            dataset.train,
            _limited(dataset, limit, seed),
            _augment(dataset, augment, cutout, flip, jitter),
        )
    }
    if dataset.val is not None:
        splits["val"] = Split(dataset.val, torch.arange(len(dataset.val)))
    return _data(dataset, splits, batch, seed, device, workers)


def _limited(dataset: Dataset, limit: int | None, seed: int, parts: int = 1) -> Tensor:
    """``limit`` images for each of ``parts``. ValueError where there are not so many."""
    count = len(dataset.train)
    if limit is None:
        return torch.arange(count)
    least, most = 2 * len(dataset.classes) // parts, count // parts
    if not least <= limit <= most:
        raise ValueError(
            f"the limit must lie between {least} (two images a class in all) and {most} (all of them), not {limit}"
        )
    return stratified(dataset.train.labels, parts * limit, seed, "limit")


def _augment(
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


def _data(
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
    stores = {
        id(part.images.store): part.images.on(device).store for part in splits.values()
    }  # splits of one file move once
    moved = {
        name: replace(part, images=replace(part.images, store=stores[id(part.images.store)]))
        for name, part in splits.items()
    }
    return Data(dataset, moved, batch, seed, device, workers, notes)
