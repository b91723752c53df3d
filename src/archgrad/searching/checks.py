"""Checks that method, state, data and batches fit each other.

A check raises a ValueError of one line, which names both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any

import torch

from archgrad.arch.passes import Batch
from archgrad.arch.space import Space
from archgrad.errors import short_repr

if TYPE_CHECKING:
    from archgrad.searching.types import Method, SearchData, State

Identity = Mapping[str, Any]
"""The identity of a search in JSON's types (`Method.identity`)."""


def in_json_types(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity in JSON's types, so that a saved one and a new one compare."""
    found: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return found


def check_identity(whose: str, was: Identity, now: Identity) -> None:
    """Check that two identities are equal.

    Args:
        whose: Name of the thing that has the first identity, for the message.
        was: First identity.
        now: Identity of the method.

    Raises:
        ValueError: They differ. The message names the first setting that differs; the name of the
            method comes first.
    """
    for name, (then, new) in differing_settings(was, now).items():
        if name == "method":
            raise ValueError(
                f"the {whose} belongs to method {short_repr(then)}, not {short_repr(new)}"
            )
        raise ValueError(
            f"the {whose} belongs to a search with {name} {short_repr(then)}, and this method has "
            f"{short_repr(new)}"
        )


def differing_settings(was: Identity, now: Identity, above: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two identities differ, ``section.name`` -> the two values.

    A setting that only one of them has does not count, because it belongs to another version of
    archgrad.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in (name for name in was if name in now):
        then, new = was[name], now[name]
        if isinstance(then, Mapping) and isinstance(new, Mapping):
            found |= differing_settings(then, new, f"{above}{name}.")
        elif then != new:
            found[f"{above}{name}"] = then, new
    return found


def check_observers(observers: Any) -> tuple[Any, ...]:
    """Return the observers, or a single one, as a tuple.

    Raises:
        ValueError: One of them lacks a method of the protocol `Observer`.
    """
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
                f"observer {type(one).__name__} has no {' and no '.join(lacking)}: inherit from "
                "archgrad.searching.Observer, whose methods do nothing, or write all three"
            )
    return several


def check_parts(method: Any, data: Any, seed: Any = None, state: Any = None) -> None:
    """Check the types of the arguments of a search.

    Raises:
        ValueError: The method, the data, the seed or the state is of another type.
    """
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise ValueError(f"seed: a whole number from 0 on is expected, not {short_repr(seed)}")
    if state is not None and not hasattr(state, "plan"):
        raise ValueError(
            f"state: the state of a search or of a checkpoint is expected, not {short_repr(state)}"
        )
    if not hasattr(method, "begin_epoch"):
        raise ValueError(
            f"a method is expected, as archgrad.method makes it, not {short_repr(method)}"
        )
    if not all(
        callable(getattr(data, name, None)) for name in ("count", "steps", "batches", "evaluation")
    ):
        raise ValueError(
            "data with count, steps, batches and evaluation are expected, as archgrad.search_data "
            f"makes them, not {short_repr(data)}"
        )


def check_state(method: Method, state: State) -> None:
    """Check that a state was built by this method, or by one with the same identity.

    Raises:
        ValueError: It was built by another method.
    """
    check_identity("state", state.identity, method.identity(state.plan))


def check_beside(
    state: State,
    *,
    seed: int | None,
    device: torch.device | str | None,
    precision: str | None,
    recompute: str | None,
) -> None:
    """Check that the arguments beside a state agree with the state, which goes on as it began.

    Raises:
        ValueError: An argument that is not None differs from the state.
    """
    pairs = {
        "seed": (seed, state.seed),
        "precision": (precision, state.precision),
        "recompute": (recompute, state.recompute),
    }
    for name, (given, has) in pairs.items():
        if given is not None and given != has:
            raise ValueError(
                f"{name}: the state has {has!r}, not {given!r}: leave it out, or begin a search "
                "without a state"
            )
    if device is not None and (asked := torch.device(device)).type != state.device.type:
        raise ValueError(
            f"device: the state is on {state.device}, not on {asked}: leave it out, or read the "
            f"state to {asked}"
        )


def check_images(state: State, data: SearchData) -> None:
    """Check that a state was planned for these numbers of images.

    Raises:
        ValueError: It was planned for other numbers.
    """
    here = data.count("train"), data.count("val")
    if any(state.plan.images) and tuple(state.plan.images) != here:
        was = " and ".join(f"{count:,}" for count in state.plan.images)
        raise ValueError(
            f"the state is of a search on {was} images (train and val), and these data have "
            f"{here[0]:,} and {here[1]:,}"
        )


def check_data(space: Space, data: SearchData) -> None:
    """Check that data have the classes and channels of the space, if the data name them.

    Raises:
        ValueError: They have others.
    """
    # These two attributes are not part of the protocol `SearchData`.
    classes, channels = (getattr(data, name, None) for name in ("classes", "in_channels"))
    if isinstance(classes, Sized) and space.classes not in (0, len(classes)):
        raise ValueError(
            f"space {space.name} has {space.classes} classes, but these data have {len(classes)}: "
            f"make the space with classes={len(classes)}"
        )
    if isinstance(channels, int) and space.in_channels not in (0, channels):
        raise ValueError(
            f"space {space.name} has in_channels {space.in_channels}, but these data have "
            f"{channels}: make the space with in_channels={channels}"
        )


def check_batch(space: Space, batch: Batch, split: str) -> None:
    """Check that the images and labels of a batch fit the space.

    Raises:
        ValueError: They have another shape or type, or a label is not a class of the space.
    """
    if not (space.classes and space.in_channels):
        return  # a module of the user's may take anything
    images, labels = batch.images, batch.labels
    if images.dim() != 4 or images.shape[1] != space.in_channels:
        raise ValueError(
            f"images of {split} are {tuple(images.shape)}, and space {space.name} takes "
            f"(B, {space.in_channels}, H, W)"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels of {split} are {tuple(labels.shape)}, {labels.dtype}; whole numbers of shape "
            f"({len(images)},) are expected"
        )
    if len(labels) and not 0 <= (largest := int(labels.max())) < space.classes:
        raise ValueError(
            f"a label of {split} is {largest}, and space {space.name} has {space.classes} classes, "
            "which count from 0"
        )
