"""What a supernet can learn from of its own past: three memories that recall logits for the batch of a pass.

``recall(forward)`` -> None before the first teacher, else (logits (K, B, C) of K teachers, known (K, B): whether a teacher knows the sample).
A teacher sees the very batch of its student under the temperature and the draws of that step, in training mode, without dropout of ops and
without a trace in the buffers.
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
from archgrad.searching.types import Data, Method, State

Recalled = tuple[Tensor, Tensor] | None
Teacher = dict[str, dict[str, Tensor]]
"""{"weights": of the supernet, "alphas": ...}"""


def snapshot(net: nn.Module, alphas: Alphas) -> Teacher:
    return cloned({"weights": dict(net.named_parameters()), "alphas": alphas})


def cloned(teacher: Mapping[str, Mapping[str, Tensor]]) -> Teacher:
    return {
        part: {name: value.detach().clone() for name, value in values.items()}
        for part, values in teacher.items()
    }


def logits_of(teachers: Iterable[Teacher], forward: Forward) -> Recalled:
    """Each teacher runs the pass again."""
    logits = [forward.again(teacher["alphas"], teacher["weights"]).exact for teacher in teachers]
    return (
        (
            torch.stack(logits),
            torch.ones(len(logits), len(forward.batch.labels), device=logits[0].device),
        )
        if logits
        else None
    )


def bytes_of(state: State) -> int:
    """Bytes of one teacher."""
    return sum(
        t.numel() * t.element_size()
        for t in (*state.nets["search"].parameters(), *state.alphas.values())
    )


def within(size: int, max_gb: float, remedies: str) -> int:
    """``size``, or ValueError where it passes ``max_gb`` gigabytes."""
    if size > max_gb * 1e9:
        raise ValueError(
            f"sddarts' teachers would take {decimal(size)}, more than {max_gb:g} GB: {remedies}, or raise sddarts.max_gb"
        )
    return size


def check_interval(interval: int, unit: str, state: State) -> None:
    """ValueError where the search is over before so many steps."""
    steps = state.plan.epochs * state.plan.steps
    if unit == "step" and interval >= steps:
        raise ValueError(
            f"sddarts.interval is {interval} steps, but the search has {steps}: choose at most {steps - 1}"
        )


class Snapshots:
    """The last ``k`` supernets, ``interval`` epochs or steps apart. Costs k forward passes a step."""

    def __init__(self, k: int, interval: int, unit: str, max_gb: float) -> None:
        self.k, self.interval, self.unit, self.max_gb = k, interval, unit, max_gb
        self.young = int(
            unit == "step"
        )  # steps: the newest is not asked, right after a step it is the student itself
        self.kept: list[Teacher] = []  # the newest last
        self.seen = self.bytes = 0  # weight steps so far

    def bind(self, state: State) -> None:
        self.kept = []  # they are of the supernet that was
        check_interval(self.interval, self.unit, state)
        remedies = "keep fewer (sddarts.k), or choose the average (sddarts.teachers)"
        self.bytes = within((self.k + self.young) * bytes_of(state), self.max_gb, remedies)

    def size(self) -> int:
        return self.bytes

    def after_step(self, forward: Forward) -> None:
        if forward.context.phase == "weight":
            self.seen += 1
            if self.unit == "step" and self.seen % self.interval == 0:
                self.keep(forward.supernet, forward.alphas)

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        if self.unit == "epoch" and (context.t.epoch + 1) % self.interval == 0:
            self.keep(state.nets["search"], state.alphas)
        return {}

    def keep(self, net: nn.Module, alphas: Alphas) -> None:
        self.kept = [*self.kept, snapshot(net, alphas)][-self.k - self.young :]

    def recall(self, forward: Forward) -> Recalled:
        return logits_of(self.kept[: len(self.kept) - self.young], forward)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "seen": self.seen}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.kept, self.seen = list(saved["kept"]), saved["seen"]


class Average:
    """The exponential moving average of weights and alphas, forgetting over ``interval`` epochs or steps: after n steps of an interval of
    n, a past value counts 1/e. Costs one forward pass a step."""

    def __init__(self, interval: int, unit: str, max_gb: float) -> None:
        self.interval, self.unit, self.max_gb = interval, unit, max_gb
        self.teacher: Teacher | None = None
        self.lap = self.bytes = 0

    def bind(self, state: State) -> None:
        self.teacher = None
        self.lap = state.plan.steps
        check_interval(self.interval, self.unit, state)
        self.bytes = within(
            bytes_of(state),
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
        steps = self.interval * (
            self.lap if self.unit == "epoch" else 1
        )  # an epoch is a pass over the training half
        for part, values in self.teacher.items():
            torch._foreach_lerp_(
                list(values.values()), list(now[part].values()), -math.expm1(-1 / steps)
            )

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        return {}

    def recall(self, forward: Forward) -> Recalled:
        return logits_of([self.teacher] if self.teacher else [], forward)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.teacher = saved["teacher"] and cloned(saved["teacher"])  # it is written in place


HALVES = ("weight", "alpha")


class Remembered:
    """The logits each image had the last ``k`` times, ``interval`` epochs apart, in half precision. Costs no forward pass; its price is that
    the student's view of the image is another. ``phases``: the halves it remembers; ``top``: keep only so many logits of an image, the others
    count as the least of these."""

    def __init__(
        self, k: int, interval: int, phases: tuple[str, ...], top: int | None, max_gb: float
    ) -> None:
        self.k, self.interval, self.phases, self.top, self.max_gb = k, interval, phases, top, max_gb
        self.tables: dict[
            str, dict[str, Tensor]
        ] = {}  # phase -> logits (k, images, C or top), classes (the same), epoch (k, images)
        self.classes = self.bytes = 0
        self.said: dict[
            tuple[int, int, str], Recalled
        ] = {}  # of the step at hand: a second order asks again after the images were seen

    def bind(self, state: State) -> None:
        self.classes = state.space.classes
        width = min(self.top or self.classes, self.classes)
        train, val = state.plan.images
        seen = {"weight": train, "alpha": train if state.plan.alpha_split == "train" else val}
        images = {phase: seen[phase] for phase in self.phases}
        if 0 in images.values():
            raise ValueError(
                "remembered logits need the number of images: start the search with images=(training half, validation half)"
            )
        each = width * (2 if width == self.classes else 2 + 2) + 4
        remedies = "keep fewer (sddarts.k), only some logits (sddarts.top), or choose other sddarts.teachers"
        self.bytes = within(self.k * each * sum(images.values()), self.max_gb, remedies)
        if not any(
            len(edge.primitives) > 1
            for group in state.space.groups.values()
            for edge in group.edges
        ):
            self.tables = {}  # a network by itself (random search): candidates do not teach each other
        self.tables = self.tables or {  # a new supernet learns from the old one's outputs
            phase: {
                "logits": torch.zeros(self.k, count, width, dtype=torch.half, device=state.device),
                "epoch": torch.full((self.k, count), -1, dtype=torch.int32, device=state.device),
            }
            | (
                {
                    "classes": torch.zeros(
                        self.k, count, width, dtype=torch.int16, device=state.device
                    )
                }
                if width < self.classes
                else {}
            )
            for phase, count in images.items()
        }

    def size(self) -> int:
        return self.bytes

    def after_step(self, forward: Forward) -> None:
        table, epoch, index = (
            self.tables.get(forward.context.phase),
            forward.context.t.epoch,
            forward.batch.index,
        )
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

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        return {}

    def recall(self, forward: Forward) -> Recalled:
        t, phase = forward.context.t, forward.context.phase
        place = (*t.place, phase)
        if place not in self.said:
            here = {
                at: found for at, found in self.said.items() if at[:2] == place[:2]
            }  # of the step's other half
            self.said = here | {
                place: self.look_up(self.tables[phase], t.epoch, forward.batch.index)
            }
        return self.said[place]

    def look_up(self, table: dict[str, Tensor], epoch: int, index: Tensor) -> Recalled:
        if epoch == 0:
            return None
        logits, when = table["logits"][:, index].float(), table["epoch"][:, index]
        if "classes" in table:
            least = logits.amin(-1, keepdim=True).expand(*logits.shape[:-1], self.classes)
            logits = least.scatter(-1, table["classes"][:, index].long(), logits)
        # An image of a ragged last batch may not have come in an epoch: what is older than k intervals no longer counts.
        known = (when >= 0) & (when < epoch) & (when >= epoch - self.k * self.interval)
        return logits, known.float()

    def state_dict(self) -> dict[str, Any]:
        return {"tables": self.tables}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.tables = {
            phase: {name: values.clone() for name, values in table.items()}
            for phase, table in saved["tables"].items()
        }
