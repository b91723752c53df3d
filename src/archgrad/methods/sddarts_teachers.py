"""The three kinds of teachers of SD-DARTS: memories that return logits for the batch of a pass.

Each has ``recall(forward)``. It returns None before the first teacher, else two tensors: the logits
of K teachers, (K, B, C), and whether a teacher has logits for a sample, (K, B). A teacher that runs
again sees the batch of its student, at the temperature and with the draws of that step. It runs in
training mode, without dropout of ops, and changes no buffer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from archgrad.arch.edges import Alphas
from archgrad.components.context import Context, Forward
from archgrad.searching.types import Memory, Method, SearchData, State

Recalled = tuple[Tensor, Tensor] | None
Teacher = dict[str, dict[str, Tensor]]
"""The tensors of a teacher by name: {"weights": those of the supernet, "alphas": its alphas}."""


def snapshot(net: nn.Module, alphas: Alphas) -> Teacher:
    """Return a teacher with copies of the present weights and alphas."""
    return copy_of({"weights": dict(net.named_parameters()), "alphas": alphas})


def copy_of(teacher: Mapping[str, Mapping[str, Tensor]]) -> Teacher:
    """Return a copy of a teacher that shares no tensor with it."""
    return {
        part: {name: value.detach().clone() for name, value in values.items()}
        for part, values in teacher.items()
    }


def logits_of(teachers: Iterable[Teacher], forward: Forward) -> Recalled:
    """Return the logits of the teachers, each of which runs the pass again."""
    logits = [forward.again(teacher["alphas"], teacher["weights"]).exact for teacher in teachers]
    if not logits:
        return None
    known = torch.ones(len(logits), len(logits[0]), device=logits[0].device)
    return torch.stack(logits), known


def logit_columns(space: Any) -> int:
    """Return the number of logits of a module of the user's."""
    shape: tuple[int, ...] = space.logit_shape
    return shape[1]


def bytes_of_teacher(state: State) -> int:
    """Return the number of bytes of one teacher."""
    tensors = (*state.nets["search"].parameters(), *state.alphas.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def checked_size(size: int, max_gb: float, remedies: str) -> int:
    """Return ``size``, a number of bytes.

    Raises:
        ValueError: The size is above ``max_gb`` gigabytes. The message names the remedies.
    """
    if size > max_gb * 1e9:
        raise ValueError(
            f"sddarts' teachers would take {decimal(size)}, more than {max_gb:g} GB: "
            f"{remedies}, or raise sddarts.max_gb"
        )
    return size


def check_interval(interval: int, unit: str, state: State) -> None:
    """Check that the search has more steps than the interval.

    Raises:
        ValueError: The interval is in steps, and the search is over before.
    """
    steps = state.plan.epochs * state.plan.steps
    if unit == "step" and interval >= steps:
        raise ValueError(
            f"sddarts.interval is {interval} steps, but the search has {steps}: "
            f"choose at most {steps - 1}"
        )


class Snapshots(Memory):
    """The last ``k`` supernets, ``interval`` epochs or steps apart.

    A step that learns from them takes k forward passes more.
    """

    def __init__(self, k: int, interval: int, unit: str, max_gb: float) -> None:
        self.k, self.interval, self.unit, self.max_gb = k, interval, unit, max_gb
        # With steps as the unit the newest snapshot does not teach: right after a step it equals
        # the student.
        self.held_back = 1 if unit == "step" else 0
        self.kept: list[Teacher] = []  # the newest last
        self.weight_steps = 0  # taken so far
        self.bytes = 0

    def bind(self, state: State) -> None:
        self.kept = []  # the snapshots of an earlier supernet do not fit this one
        check_interval(self.interval, self.unit, state)
        remedies = "keep fewer (sddarts.k), or choose the average (sddarts.teachers)"
        self.bytes = checked_size(
            (self.k + self.held_back) * bytes_of_teacher(state), self.max_gb, remedies
        )

    def size(self) -> int:
        return self.bytes

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase == "weight":
            self.weight_steps += 1
            if self.unit == "step" and self.weight_steps % self.interval == 0:
                self.add_snapshot(forward.supernet, forward.alphas)

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        if self.unit == "epoch" and (context.progress.epoch + 1) % self.interval == 0:
            self.add_snapshot(state.nets["search"], state.alphas)
        return {}

    def add_snapshot(self, net: nn.Module, alphas: Alphas) -> None:
        """Add a snapshot of the present supernet, and drop the oldest beyond ``k``."""
        self.kept = [*self.kept, snapshot(net, alphas)][-self.k - self.held_back :]

    def recall(self, forward: Forward) -> Recalled:
        """Return the logits of the snapshots on the batch of this pass."""
        return logits_of(self.kept[: len(self.kept) - self.held_back], forward)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "seen": self.weight_steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.kept, self.weight_steps = list(saved["kept"]), saved["seen"]


class Average(Memory):
    """The exponential moving average of weights and alphas.

    A past value counts 1/e after ``interval`` epochs or steps. A step that learns from the average
    takes one forward pass more.
    """

    def __init__(self, interval: int, unit: str, max_gb: float) -> None:
        self.interval, self.unit, self.max_gb = interval, unit, max_gb
        self.teacher: Teacher | None = None
        self.epoch_steps = self.bytes = 0

    def bind(self, state: State) -> None:
        self.teacher = None
        self.epoch_steps = state.plan.steps
        check_interval(self.interval, self.unit, state)
        self.bytes = checked_size(
            bytes_of_teacher(state),
            self.max_gb,
            "take a smaller supernet, or remembered logits (sddarts.teachers)",
        )

    def size(self) -> int:
        return self.bytes

    @torch.no_grad()
    def after_step(self, forward: Forward) -> None:
        if forward.context.phase != "weight":
            return
        if self.teacher is None:
            self.teacher = snapshot(forward.supernet, forward.alphas)
            return
        now: dict[str, Mapping[str, Tensor]] = {
            "weights": dict(forward.supernet.named_parameters()),
            "alphas": forward.alphas,
        }
        # An epoch here is one pass over the training half; an epoch of `cdarts` has several.
        steps = self.interval * (self.epoch_steps if self.unit == "epoch" else 1)
        for part, values in self.teacher.items():
            torch._foreach_lerp_(
                list(values.values()), list(now[part].values()), -math.expm1(-1 / steps)
            )

    def recall(self, forward: Forward) -> Recalled:
        """Return the logits of the average on the batch of this pass."""
        return logits_of([self.teacher] if self.teacher else [], forward)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        # The average changes in place, so it must not share tensors with the saved one.
        self.teacher = saved["teacher"] and copy_of(saved["teacher"])


HALVES = ("weight", "alpha")


class RememberedLogits(Memory):
    """The logits that each image had the last ``k`` times, ``interval`` epochs apart.

    They are kept in half precision. No forward pass is needed. But the logits belong to another
    augmentation of the image than the one that the student sees.

    Args:
        k: Number of earlier times.
        interval: Epochs between two of them.
        phases: The halves of a step whose logits are kept, "weight" and "alpha".
        top: Number of logits that are kept of an image, the largest. The others count as the least
            of these. None keeps all.
        max_gb: Gigabytes that the tables may take.
    """

    def __init__(
        self, k: int, interval: int, phases: tuple[str, ...], top: int | None, max_gb: float
    ) -> None:
        self.k, self.interval, self.phases, self.top, self.max_gb = k, interval, phases, top, max_gb
        # By phase: logits (k, images, C or top), their classes (the same shape), epoch (k, images).
        self.tables: dict[str, dict[str, Tensor]] = {}
        self.classes = self.bytes = 0
        # The results of the present step by (epoch, step, phase): a second-order step recalls again
        # after the logits of its images were replaced.
        self.recalled: dict[tuple[int, int, str], Recalled] = {}

    def bind(self, state: State) -> None:
        self.classes = state.space.classes or logit_columns(state.space)
        width = min(self.top or self.classes, self.classes)
        train, val = state.plan.images
        seen = {"weight": train, "alpha": train if state.plan.alpha_split == "train" else val}
        images = {phase: seen[phase] for phase in self.phases}
        if 0 in images.values():
            raise ValueError(
                "remembered logits need the number of images: start the search with "
                "images=(training half, validation half), or Search with samples=(train, val)"
            )
        # Bytes of an image: half-precision logits, int16 classes if not all are kept, int32 epoch.
        each = width * (2 if width == self.classes else 2 + 2) + 4
        remedies = (
            "keep fewer (sddarts.k), only some logits (sddarts.top), "
            "or choose other sddarts.teachers"
        )
        self.bytes = checked_size(self.k * each * sum(images.values()), self.max_gb, remedies)
        if not any(
            len(edge.primitives) > 1
            for group in state.space.groups.values()
            for edge in group.edges
        ):
            # A space with one op an edge is one candidate of a random search. Candidates do not
            # teach each other.
            self.tables = {}
        # A new supernet learns from the logits of the old one, so existing tables stay.
        self.tables = self.tables or {
            phase: self.empty_table(count, width, state.device) for phase, count in images.items()
        }

    def empty_table(self, images: int, width: int, device: torch.device) -> dict[str, Tensor]:
        """Return a table without logits: its epochs are -1."""
        shape = (self.k, images, width)
        table = {
            "logits": torch.zeros(shape, dtype=torch.half, device=device),
            "epoch": torch.full(shape[:2], -1, dtype=torch.int32, device=device),
        }
        if width < self.classes:
            table["classes"] = torch.zeros(shape, dtype=torch.int16, device=device)
        return table

    @property
    def indexed(self) -> tuple[str, ...]:
        """Return the halves of a step whose batches must have the index of each sample."""
        return self.phases

    def size(self) -> int:
        return self.bytes

    def after_step(self, forward: Forward) -> None:
        table, index = self.tables.get(forward.context.phase), forward.batch.index
        epoch = forward.context.progress.epoch
        if table is None or epoch % self.interval:
            return
        slot = epoch // self.interval % self.k
        most = torch.finfo(torch.half).max
        logits = forward.output.logits.detach().clamp(-most, most)
        if "classes" in table:
            logits, classes = logits.topk(table["classes"].shape[-1])
            table["classes"][slot, index] = classes.short()
        table["logits"][slot, index] = logits.half()
        table["epoch"][slot, index] = epoch

    def recall(self, forward: Forward) -> Recalled:
        """Return the logits that the images of this pass had before the present epoch."""
        progress, phase = forward.context.progress, forward.context.phase
        place = (*progress.step_key, phase)
        if place not in self.recalled:
            other_half = {at: found for at, found in self.recalled.items() if at[:2] == place[:2]}
            found = self.look_up(self.tables[phase], progress.epoch, forward.batch.index)
            self.recalled = other_half | {place: found}
        return self.recalled[place]

    def look_up(self, table: dict[str, Tensor], epoch: int, index: Tensor) -> Recalled:
        """Return the kept logits of these images, and which of them count."""
        if epoch == 0:
            return None
        logits, when = table["logits"][:, index].float(), table["epoch"][:, index]
        if "classes" in table:
            least = logits.amin(-1, keepdim=True).expand(*logits.shape[:-1], self.classes)
            logits = least.scatter(-1, table["classes"][:, index].long(), logits)
        # A last, smaller batch may be left out, so an image may miss an epoch. Logits older than k
        # intervals do not count.
        known = (when >= 0) & (when < epoch) & (when >= epoch - self.k * self.interval)
        return logits, known.float()

    def state_dict(self) -> dict[str, Any]:
        return {"tables": self.tables}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.tables = {
            phase: {name: values.clone() for name, values in table.items()}
            for phase, table in saved["tables"].items()
        }
