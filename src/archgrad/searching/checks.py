"""Method, state, data and batches held against each other. What does not fit is one line that names both sides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any

import torch

from archgrad.arch.passes import Batch
from archgrad.arch.space import Space
from archgrad.errors import shown

if TYPE_CHECKING:
    from archgrad.searching.types import Data, Method, State

Identity = Mapping[str, Any]
"""What a search is of, as JSON has it: see `Method.identity`."""


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what was saved and what is made anew compare."""
    found: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return found


def check_identity(whose: str, was: Identity, now: Identity) -> None:
    """Raises a ValueError where two identities differ. It names the first setting that differs; the method's name comes first."""
    for name, (then, new) in differing(was, now).items():
        if name == "method":
            raise ValueError(f"the {whose} belongs to method {shown(then)}, not {shown(new)}")
        raise ValueError(
            f"the {whose} belongs to a search with {name} {shown(then)}, and this method has {shown(new)}"
        )


def differing(was: Identity, now: Identity, above: str = "") -> dict[str, tuple[Any, Any]]:
    """``section.name`` -> the two values, where they are not equal. What only one of them names is of another version of archgrad, in which
    there was no such option, or is one no more."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in (name for name in was if name in now):
        then, new = was[name], now[name]
        if isinstance(then, Mapping) and isinstance(new, Mapping):
            found |= differing(then, new, f"{above}{name}.")
        elif then != new:
            found[f"{above}{name}"] = then, new
    return found


def check_observers(observers: Any) -> tuple[Any, ...]:
    """Returns the observers, or a single one, as a tuple. Raises a ValueError where one of them lacks a method of the protocol."""
    several = (
        (observers,)
        if hasattr(observers, "on_epoch") or not isinstance(observers, Iterable)
        else tuple(observers)
    )
    for one in several:
        if lacking := [
            name
            for name in ("on_step", "on_epoch", "on_decision")
            if not callable(getattr(one, name, None))
        ]:
            raise ValueError(
                f"observer {type(one).__name__} has no {' and no '.join(lacking)}: an observer has all three, `...` does nothing"
            )
    return several


def check_parts(method: Any, data: Any, seed: Any = None, state: Any = None) -> None:
    """ValueError where what a search is given is no method, no data, no seed or no state."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise ValueError(f"seed: a whole number from 0 on is expected, not {shown(seed)}")
    if state is not None and not hasattr(state, "plan"):
        raise ValueError(
            f"state: what a search or a checkpoint left is expected, not {shown(state)}"
        )
    if not hasattr(method, "begin_epoch"):
        raise ValueError(f"a method is expected, as archgrad.method makes it, not {shown(method)}")
    if not all(
        callable(getattr(data, name, None)) for name in ("count", "steps", "batches", "evaluation")
    ):
        raise ValueError(
            f"data with count, steps, batches and evaluation are expected, as archgrad.search_data makes them, not {shown(data)}"
        )


def check_state(method: Method, state: State) -> None:
    """ValueError where a state was not built by this method, or one of the same name, space and settings."""
    check_identity("state", state.identity, method.identity(state.plan))


def check_beside(
    state: State,
    *,
    seed: int | None,
    device: torch.device | str | None,
    precision: str | None,
    recompute: str | None,
) -> None:
    """ValueError where something is said beside a state that has it otherwise: the state goes on as it began."""
    said = {
        "seed": (seed, state.seed),
        "precision": (precision, state.precision),
        "recompute": (recompute, state.recompute),
    }
    for name, (given, has) in said.items():
        if given is not None and given != has:
            raise ValueError(
                f"{name}: the state has {has!r}, not {given!r}: leave it out, or begin a search without a state"
            )
    if device is not None and (asked := torch.device(device)).type != state.device.type:
        raise ValueError(
            f"device: the state is on {state.device}, not on {asked}: leave it out, or read the state to {asked}"
        )


def check_images(state: State, data: Data) -> None:
    """ValueError where a state was planned for other numbers of images."""
    here = data.count("train"), data.count("val")
    if any(state.plan.images) and tuple(state.plan.images) != here:
        was = " and ".join(f"{count:,}" for count in state.plan.images)
        raise ValueError(
            f"the state is of a search on {was} images (train and val), and these data have {here[0]:,} and {here[1]:,}"
        )


def check_data(space: Space, data: Data) -> None:
    """ValueError where data that name their classes and channels have others than the space."""
    classes, channels = (
        getattr(data, name, None) for name in ("classes", "in_channels")
    )  # no part of the protocol
    if isinstance(classes, Sized) and len(classes) != space.classes:
        raise ValueError(
            f"space {space.name} has {space.classes} classes, but these data have {len(classes)}: say classes={len(classes)}"
        )
    if isinstance(channels, int) and channels != space.in_channels:
        raise ValueError(
            f"space {space.name} has in_channels {space.in_channels}, but these data have {channels}: say in_channels={channels}"
        )


def check_batch(space: Space, batch: Batch, split: str) -> None:
    """ValueError where images or labels of a batch are none for this space."""
    images, labels = batch.images, batch.labels
    if images.dim() != 4 or images.shape[1] != space.in_channels:
        raise ValueError(
            f"images of {split} are {tuple(images.shape)}, and space {space.name} takes (B, {space.in_channels}, H, W)"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels of {split} are {tuple(labels.shape)}, {labels.dtype}; whole numbers of shape ({len(images)},) are expected"
        )
    if len(labels) and not 0 <= (largest := int(labels.max())) < space.classes:
        raise ValueError(
            f"a label of {split} is {largest}, and space {space.name} has {space.classes} classes, which count from 0"
        )
