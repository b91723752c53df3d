"""Check the content of a checkpoint: a schema for its plain part, rules for its tensors.

Each error names the part that is wrong.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, Json, ValidationError
from torch import Tensor

from archgrad.errors import is_out_of_memory, one_line, short_repr, shortened
from archgrad.option_types import Threads

VERSION = 3
MOST = 2**31 - 1
"""Largest number of epochs, steps or images; a larger number comes from another file."""

SavedCount = Annotated[int, Field(ge=0, le=MOST)]
SavedPositive = Annotated[int, Field(ge=1, le=MOST)]
Parts = dict[str, Any]
Part = TypeVar("Part", bound=BaseModel)


class SavedPlan(BaseModel, strict=True, extra="forbid"):
    """The fields of `archgrad.searching.types.Plan`."""

    epochs: SavedPositive
    steps: SavedPositive
    images: tuple[SavedCount, SavedCount] = (0, 0)
    alpha_split: Literal["train", "val"] = "val"


class SavedDecision(BaseModel, strict=True, extra="forbid"):
    """The fields of `archgrad.searching.types.Decision`, each as JSON text."""

    genotype: Json[dict[str, Any]]
    note: Json[dict[str, Any]]


class SavedSearch(BaseModel, strict=True, extra="forbid"):
    """A packed search (`archgrad.searching.checkpoint.pack`), except the values of its tensors."""

    version: Literal[3]
    method: str
    identity: Json[dict[str, Any]] | None = None  # not there in the first of this version
    seed: int
    plan: SavedPlan
    precision: Literal["32", "bf16"]
    threads: Threads
    epoch: SavedCount
    step: SavedCount
    born: SavedCount
    dies: SavedPositive
    spec: Json[dict[str, Any]]
    nets: Parts
    alphas: Parts
    optimizers: Parts
    memory: Parts
    sums: Parts
    counts: dict[str, SavedPositive]
    stopped: str | None
    ended: SavedPositive | None = None  # not there in the first of this version
    genotype: Json[dict[str, Any]] | None
    decisions: list[SavedDecision]


class SavedTraining(BaseModel, strict=True, extra="forbid"):
    """A packed retraining (`archgrad.retraining.training.Training.pack`)."""

    version: Literal[3]
    kind: Literal["retrain"]
    epoch: SavedCount
    step: SavedCount
    sums: Parts
    net: Parts
    optimizer: Parts
    scaler: dict[str, float | int]


def check_plain_part(kind: type[Part], content: Mapping[str, Any]) -> Part:
    """Check the plain part of a checkpoint.

    Args:
        kind: Schema of the checkpoint.
        content: Content of the checkpoint.

    Returns:
        The content, with JSON texts parsed.

    Raises:
        ValueError: A field is wrong. The message reads ``FIELD: REASON, not VALUE``.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = shortened(".".join(map(str, first["loc"])), 60)
        raise ValueError(
            f"{field}: {shortened(first['msg'], 100)}, not {short_repr(first['input'])}"
        ) from None


def check_bound(field: str, value: int, most: int) -> None:
    """Raise a ValueError if a number is above ``most``."""
    if value > most:
        raise ValueError(f"{field}: it should be at most {most}, not {value}")


def check_keys(field: str, found: object, expected: Mapping[str, object]) -> None:
    """Raise a ValueError if ``found`` is no mapping with exactly the keys of ``expected``."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{field}: it should be a dictionary, not {short_repr(found)}")
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"{field}: it lacks {short_repr(missing[0])}")
    if foreign := [name for name in found if name not in expected]:
        raise ValueError(f"{field}: nothing here is called {short_repr(foreign[0])}")


def check_tensors(field: str, found: object, expected: Mapping[str, Tensor]) -> None:
    """Check that ``found`` has the tensors of ``expected``, with finite numbers.

    Raises:
        ValueError: A name, shape or type differs, or a number is not finite.
    """
    check_keys(field, found, expected)
    assert isinstance(found, Mapping)  # checked
    for name, like in expected.items():
        check_tensor(f"{field}.{name}", found[name], like)


def check_tensor(field: str, found: object, like: Tensor) -> None:
    """Raise a ValueError if ``found`` is no finite tensor of the shape and type of ``like``."""
    if not torch.is_tensor(found):
        raise ValueError(f"{field}: it should be a tensor, not {short_repr(found)}")
    if (found.dtype, found.layout, found.is_meta) != (
        like.dtype,
        like.layout,
        False,
    ) or found.shape != like.shape:
        raise ValueError(f"{field}: it should be {_describe(like)}, not {_describe(found)}")
    if not _is_finite(found):
        raise ValueError(f"{field}: it holds numbers that are not finite")


def check_optimizer(field: str, found: object, optimizer: torch.optim.Optimizer) -> None:
    """Raise a ValueError if ``found`` is no state of an optimizer of the same tensors."""
    fresh = optimizer.state_dict()
    check_keys(field, found, fresh)
    assert isinstance(found, Mapping)  # checked
    groups, slots = found["param_groups"], found["state"]
    if not isinstance(groups, list) or len(groups) != len(fresh["param_groups"]):
        raise ValueError(
            f"{field}.param_groups: there should be {len(fresh['param_groups'])}, "
            f"not {short_repr(groups)}"
        )
    for place, (group, own) in enumerate(zip(groups, fresh["param_groups"], strict=True)):
        where = f"{field}.param_groups.{place}"
        if not isinstance(group, Mapping):
            raise ValueError(f"{where}: it should be a dictionary, not {short_repr(group)}")
        # An older torch had fewer options, and a scheduler adds numbers.
        further = {
            name: value for name, value in group.items() if type(value) in (int, float, NoneType)
        }
        check_keys(
            where,
            group,
            {"params": [], **{name: own[name] for name in own if name in group}, **further},
        )
        if group["params"] != own["params"]:
            raise ValueError(
                f"{where}.params: it should be {short_repr(own['params'])}, "
                f"not {short_repr(group['params'])}"
            )
        for name, value in group.items():
            if isinstance(own.get(name), float) and not (
                isinstance(value, int | float) and math.isfinite(value)
            ):
                raise ValueError(
                    f"{where}.{name}: it should be a finite number, not {short_repr(value)}"
                )
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    check_keys(f"{field}.state", slots, slots if isinstance(slots, Mapping) else {})
    for index, own in slots.items():
        if not isinstance(index, int) or not 0 <= index < len(tensors):
            raise ValueError(f"{field}.state: there is no tensor {short_repr(index)}")
        expected = _state_of(optimizer, tensors[index])
        if expected is not None:
            check_tensors(f"{field}.state.{index}", own, expected)


def check_like(field: str, found: object, fresh: object) -> None:
    """Check that a part of a checkpoint has the type of the same part of a new state.

    Of growing lists and dictionaries only the numbers are checked.

    Args:
        field: Name of the part, for messages.
        found: The part of the checkpoint.
        fresh: The part of a new state.

    Raises:
        ValueError: A type differs, or a number is not finite.
    """
    if torch.is_tensor(fresh):
        check_tensor(field, found, fresh)
    elif isinstance(fresh, Mapping):
        if fresh and all(map(torch.is_tensor, fresh.values())):
            return check_tensors(field, found, dict(fresh))
        if not isinstance(found, Mapping):
            raise ValueError(f"{field}: it should be a dictionary, not {short_repr(found)}")
        for name in found.keys() & fresh.keys():
            check_like(f"{field}.{name}", found[name], fresh[name])
    elif fresh is not None and not isinstance(found, _allowed_types(fresh)):
        raise ValueError(f"{field}: it should be {type(fresh).__name__}, not {short_repr(found)}")
    if not all(_is_finite(tensor) for tensor in _tensors_in(found)):
        raise ValueError(f"{field}: it holds numbers that are not finite")


@contextmanager
def naming_field(field: str) -> Iterator[None]:
    """Turn an error of the block into a ValueError that names ``field``.

    Errors of files and of missing memory stay unchanged.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a wrong content may raise any type
        if is_out_of_memory(error):
            raise
        message = one_line(error)
        raise ValueError(message if message.startswith(field) else f"{field}: {message}") from None


def _describe(tensor: Tensor) -> str:
    """Return type and shape, such as ``float32 of 3x5``."""
    shape = "x".join(map(str, tensor.shape)) or "no dimension"
    return f"{str(tensor.dtype).removeprefix('torch.')} of {shape}"


def _allowed_types(fresh: object) -> type | tuple[type, ...]:
    """Return the types that may replace ``fresh``: int and float, and list and tuple, are alike."""
    if isinstance(fresh, bool | str):
        return type(fresh)
    if isinstance(fresh, int | float):
        return int, float
    return (list, tuple) if isinstance(fresh, list | tuple) else type(fresh)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _tensors_in(found: object) -> Iterator[Tensor]:
    """Yield all tensors of a structure of dictionaries and lists."""
    if torch.is_tensor(found):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _tensors_in(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _tensors_in(value)


def _state_of(optimizer: torch.optim.Optimizer, tensor: Tensor) -> dict[str, Tensor] | None:
    """Return the tensors that such an optimizer keeps for a tensor after a step.

    An optimizer of the user's that cannot be made of its options gives None.
    """
    known = inspect.signature(type(optimizer)).parameters
    options = {name: value for name, value in optimizer.param_groups[0].items() if name in known}
    options.pop("params", None)
    trial_tensor = torch.zeros_like(tensor, requires_grad=True)
    trial_tensor.grad = torch.zeros_like(tensor)
    try:
        trial = type(optimizer)([trial_tensor], **options)
        trial.step()
    except (TypeError, ValueError):
        return None
    return {
        name: value for name, value in trial.state[trial_tensor].items() if torch.is_tensor(value)
    }
