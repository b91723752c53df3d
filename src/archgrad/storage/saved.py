"""What may stand in a checkpoint: one schema for its plain part, one rule for its tensors. Each complaint names the part that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, Json, ValidationError
from torch import Tensor

from archgrad.errors import out_of_memory, shortened, shown, words
from archgrad.option_types import Threads

VERSION = 3
MOST = 2**31 - 1
"""Of epochs, steps, images: more is a number of something else."""

SavedCount = Annotated[int, Field(ge=0, le=MOST)]
SavedPositive = Annotated[int, Field(ge=1, le=MOST)]
Parts = dict[str, Any]
Part = TypeVar("Part", bound=BaseModel)


class SavedPlan(BaseModel, strict=True, extra="forbid"):
    """`archgrad.searching.types.Plan`."""

    epochs: SavedPositive
    steps: SavedPositive
    images: tuple[SavedCount, SavedCount] = (0, 0)
    alpha_split: Literal["train", "val"] = "val"


class SavedDecision(BaseModel, strict=True, extra="forbid"):
    """`archgrad.searching.types.Decision`, each part as JSON text."""

    genotype: Json[dict[str, Any]]
    note: Json[dict[str, Any]]


class SavedSearch(BaseModel, strict=True, extra="forbid"):
    """What `archgrad.searching.checkpoint.pack` makes of a search. Its tensors are held to those of a state that was built anew."""

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
    """What `archgrad.retraining.training.Training.pack` makes of a retraining."""

    version: Literal[3]
    kind: Literal["retrain"]
    epoch: SavedCount
    step: SavedCount
    sums: Parts
    net: Parts
    optimizer: Parts
    scaler: dict[str, float | int]


def plain(kind: type[Part], content: Mapping[str, Any]) -> Part:
    """The plain part of a checkpoint.

    Args:
        kind: Which schema it follows.
        content: What was read.

    Returns:
        The same, checked; JSON texts in it are read.

    Raises:
        ValueError: ``field: what is wrong, not value``
    """
    try:
        return kind(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = shortened(".".join(map(str, first["loc"])), 60)
        raise ValueError(
            f"{field}: {shortened(first['msg'], 100)}, not {shown(first['input'])}"
        ) from None


def check_bound(field: str, value: int, most: int) -> None:
    """ValueError where a number passes ``most``."""
    if value > most:
        raise ValueError(f"{field}: it should be at most {most}, not {value}")


def check_keys(field: str, found: object, expected: Mapping[str, object]) -> None:
    """ValueError where ``found`` is no mapping with exactly the keys of ``expected``."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{field}: it should be a dictionary, not {shown(found)}")
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"{field}: it lacks {shown(missing[0])}")
    if foreign := [name for name in found if name not in expected]:
        raise ValueError(f"{field}: nothing here is called {shown(foreign[0])}")


def check_tensors(field: str, found: object, expected: Mapping[str, Tensor]) -> None:
    """ValueError where ``found`` has not exactly the tensors of ``expected``: the same names, shapes and types, and all of them finite."""
    check_keys(field, found, expected)
    assert isinstance(found, Mapping)  # checked
    for name, like in expected.items():
        check_tensor(f"{field}.{name}", found[name], like)


def check_tensor(field: str, found: object, like: Tensor) -> None:
    """ValueError where ``found`` is no finite tensor of the shape and the type of ``like``."""
    if not torch.is_tensor(found):
        raise ValueError(f"{field}: it should be a tensor, not {shown(found)}")
    if (found.dtype, found.layout, found.is_meta) != (
        like.dtype,
        like.layout,
        False,
    ) or found.shape != like.shape:
        raise ValueError(f"{field}: it should be {_kind(like)}, not {_kind(found)}")
    if not _finite(found):
        raise ValueError(f"{field}: it holds numbers that are not finite")


def check_optimizer(field: str, found: object, optimizer: torch.optim.Optimizer) -> None:
    """ValueError where ``found`` is no state of an optimizer of just these tensors."""
    fresh = optimizer.state_dict()
    check_keys(field, found, fresh)
    assert isinstance(found, Mapping)  # checked
    groups, slots = found["param_groups"], found["state"]
    if not isinstance(groups, list) or len(groups) != len(fresh["param_groups"]):
        raise ValueError(
            f"{field}.param_groups: there should be {len(fresh['param_groups'])}, not {shown(groups)}"
        )
    for place, (group, own) in enumerate(zip(groups, fresh["param_groups"], strict=True)):
        where = f"{field}.param_groups.{place}"
        if not isinstance(group, Mapping):
            raise ValueError(f"{where}: it should be a dictionary, not {shown(group)}")
        check_keys(
            where, group, {"params": [], **{name: own[name] for name in own if name in group}}
        )  # an older torch knew fewer options
        if group["params"] != own["params"]:
            raise ValueError(
                f"{where}.params: it should be {shown(own['params'])}, not {shown(group['params'])}"
            )
        for name, value in group.items():
            if isinstance(own[name], float) and not (
                isinstance(value, int | float) and math.isfinite(value)
            ):
                raise ValueError(
                    f"{where}.{name}: it should be a finite number, not {shown(value)}"
                )
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    check_keys(f"{field}.state", slots, slots if isinstance(slots, Mapping) else {})
    for index, own in slots.items():
        if not isinstance(index, int) or not 0 <= index < len(tensors):
            raise ValueError(f"{field}.state: there is no tensor {shown(index)}")
        expected = {
            name: like if like.dim() == 0 else tensors[index]
            for name, like in _slots(optimizer).items()
        }
        check_tensors(f"{field}.state.{index}", own, expected)


def check_like(field: str, found: object, fresh: object) -> None:
    """ValueError where ``found`` is of another kind than ``fresh``, which is the same part of a state at its start. Lists and dictionaries that
    grow are held to nothing but finite numbers."""
    if torch.is_tensor(fresh):
        check_tensor(field, found, fresh)
    elif isinstance(fresh, Mapping):
        if fresh and all(map(torch.is_tensor, fresh.values())):
            return check_tensors(field, found, dict(fresh))
        if not isinstance(found, Mapping):
            raise ValueError(f"{field}: it should be a dictionary, not {shown(found)}")
        for name in found.keys() & fresh.keys():
            check_like(f"{field}.{name}", found[name], fresh[name])
    elif fresh is not None and not isinstance(found, _kinds(fresh)):
        raise ValueError(f"{field}: it should be {type(fresh).__name__}, not {shown(found)}")
    if not all(_finite(tensor) for tensor in _tensors(found)):
        raise ValueError(f"{field}: it holds numbers that are not finite")


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Whatever a part of a checkpoint breaks inside is a ValueError that names ``field``; memory that runs out stays what it is."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is read into an own structure may be anything
        if out_of_memory(error):
            raise
        says = words(error)
        raise ValueError(says if says.startswith(field) else f"{field}: {says}") from None


def _kind(tensor: Tensor) -> str:
    """``float32 of 3x5``"""
    return f"{str(tensor.dtype).removeprefix('torch.')} of {'x'.join(map(str, tensor.shape)) or 'no dimension'}"


def _kinds(fresh: object) -> type | tuple[type, ...]:
    """Of what stands in the place of ``fresh`` later: a number may change its kind, a tuple may come back as a list."""
    if isinstance(fresh, bool | str):
        return type(fresh)
    return (
        (int, float)
        if isinstance(fresh, int | float)
        else (list, tuple)
        if isinstance(fresh, list | tuple)
        else type(fresh)
    )


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _tensors(found: object) -> Iterator[Tensor]:
    """All tensors in a structure of dictionaries and lists."""
    if torch.is_tensor(found):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _tensors(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _tensors(value)


def _slots(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer of this kind keeps of each tensor, as it is after the first step on one number."""
    options = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    number = torch.zeros(1, requires_grad=True)
    trial = type(optimizer)([number], **options)  # type: ignore[call-arg]
    number.grad = torch.zeros(1)
    trial.step()
    return {name: value for name, value in trial.state[number].items() if torch.is_tensor(value)}
