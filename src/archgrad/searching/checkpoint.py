"""Save a `State` on disk, and read it back.

A checkpoint is sealed, written in one step, and read with ``weights_only=True``. It holds dicts,
lists, tensors and Python scalars only. The checkpoint before the last one stays beside it, in case
the last one is damaged. No random state is saved, because draws follow from places (see
`archgrad.seeds`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch

from archgrad.arch.genotype import Genotype
from archgrad.devices import device_named
from archgrad.errors import command, is_out_of_memory, short_repr
from archgrad.searching import checks
from archgrad.searching.finite import check_all_finite
from archgrad.searching.types import Decision, Method, Plan, State
from archgrad.storage import checkpoint_schema, files, seals
from archgrad.storage.checkpoint_schema import VERSION


def pack(method: Method, state: State) -> dict[str, Any]:
    """Return the content of a checkpoint.

    Each part is named here, because saving by reflection would save too much and would miss shared
    tensors.

    Raises:
        ValueError: The state is of another method, or the search has diverged, in which case the
            earlier checkpoint is worth more.
    """
    checks.check_state(method, state)
    check_all_finite(method, state)
    return {
        "version": VERSION,
        "method": method.name,
        "identity": json.dumps(state.identity),
        "seed": state.seed,
        "plan": state.plan._asdict(),
        "precision": state.precision,
        "threads": torch.get_num_threads(),
        "epoch": state.epoch,
        "step": state.step,
        "born": state.born,
        "dies": state.dies,
        "spec": json.dumps(state.space.spec()),
        "nets": {name: net.state_dict() for name, net in state.nets.items()},
        "alphas": {name: rows.detach() for name, rows in state.alphas.items()},
        "optimizers": {
            name: optimizer.state_dict() for name, optimizer in state.optimizers.items()
        },
        "memory": {name: memory.state_dict() for name, memory in state.memory.items()},
        "sums": state.sums,
        "counts": state.counts,
        "stopped": state.stopped,
        "ended": state.ended,
        "genotype": state.genotype and json.dumps(state.genotype.to_json()),
        "decisions": [
            {"genotype": json.dumps(one.genotype.to_json()), "note": json.dumps(one.note)}
            for one in state.decisions
        ],
    }


def save(path: Path | str, content: dict[str, Any]) -> None:
    """Write a checkpoint to a draft, which then becomes ``path``.

    After a kill at any moment either the old file or the new one is there, whole. The old file also
    stays as the checkpoint before the last.
    """
    path = Path(path)
    with seals.sealed(path, files.previous_path(path)) as file:
        torch.save(content, cast("IO[bytes]", file))  # it only writes and flushes


def checkpoint_to_resume(path: Path, back: bool) -> Path:
    """Return the checkpoint to go on from.

    Args:
        path: The last checkpoint, which need not exist yet.
        back: Whether to take the checkpoint before the last one.

    Raises:
        ValueError: The checkpoint before the last is missing, or only that one exists.
    """
    found = files.previous_path(path)
    if back and not found.exists():
        raise ValueError(f"there is no checkpoint before the last ({found}): leave out --previous")
    if not back and found.exists() and not path.exists():
        raise ValueError(f"there is no checkpoint {path}: {_advice(path)}")
    return found if back else path


def restore_previous(path: Path) -> None:
    """Make the checkpoint before the last the last one.

    Raises:
        OSError: The file system refuses it. The error names ``path``.
    """
    files.keep(files.previous_path(path), path)


def read(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint, after a check of its seal.

    Args:
        path: Path of the checkpoint.
        device: Device of the tensors.

    Returns:
        The content that was saved. `restore` checks it against a method.

    Raises:
        ValueError: The file is missing, damaged, or not a checkpoint of archgrad.
        OSError: The file cannot be read.
    """
    device_named(device)
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"there is no checkpoint {path}: "
            f"{_advice(path, 'the run stopped before its first one; start it again')}"
        )
    files.check_plain(path)
    try:
        with files.naming_path(path), files.open_regular(path) as file:
            seals.check_seal(file)
            content = torch.load(file, map_location=device, weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        if is_out_of_memory(error):
            raise
        why = str(error) if type(error) is ValueError else type(error).__name__
        raise ValueError(
            f"checkpoint {path} is damaged and cannot be read ({why}): {_advice(path)}"
        ) from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(
            f"{path} is not a checkpoint of this version of archgrad (version {VERSION})"
        )
    return content


@contextmanager
def naming_checkpoint(path: Path) -> Iterator[None]:
    """Turn a ValueError inside into one that names the checkpoint and a way to go on."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"checkpoint {path} does not fit its run ({error}): {_advice(path)}"
        ) from None


def load(path: Path | str, method: Method, device: torch.device | str = "cpu") -> State:
    """Return the state in a file: `read`, then `restore`.

    Raises:
        ValueError: The content does not fit. The message names the file, the wrong part and a way
            to go on.
        OSError: The file cannot be read.
    """
    content = read(path, device)
    with naming_checkpoint(Path(path)):
        return restore(method, content, device)


def restore(method: Method, content: dict[str, Any], device: torch.device | str = "cpu") -> State:
    """Return the state that a checkpoint holds.

    The number of threads of torch becomes the recorded one, because gradients of convolutions
    depend on it.

    Args:
        method: Method of the search.
        content: Content that `read` returned.
        device: Device of the state.

    Returns:
        The state. Nothing in the process changes before the whole content is checked.

    Raises:
        ValueError: The content is of another method, or a part of it differs in shape or type from
            that of a new state.
    """
    if content.get("method") != method.name:
        raise ValueError(
            f"the checkpoint belongs to method {short_repr(content.get('method'))}, "
            f"not {method.name!r}"
        )
    plain = checkpoint_schema.check_plain_part(checkpoint_schema.SavedSearch, content)
    plan = Plan(**plain.plan.model_dump())
    _check_place(method, plain, plan)
    if plain.identity is not None:
        checks.check_identity("checkpoint", plain.identity, method.identity(plan))
    state = State(
        plain.seed, plan, torch.device(device_named(device)), plain.precision, method.space
    )
    state.epoch, state.step = plain.epoch, plain.step
    with checkpoint_schema.naming_field("spec"):
        method.build(state, method.space.resized(**plain.spec))
    state.born, state.dies = plain.born, plain.dies
    _check_tensors(state, plain)
    for name, net in state.nets.items():
        net.load_state_dict(content["nets"][name])
    for name, rows in state.alphas.items():
        rows.data.copy_(content["alphas"][name])
    for name, optimizer in state.optimizers.items():
        with checkpoint_schema.naming_field(f"optimizers.{name}"):
            optimizer.load_state_dict(content["optimizers"][name])
    for name, memory in state.memory.items():
        with checkpoint_schema.naming_field(f"memory.{name}"):
            memory.load_state_dict(content["memory"][name])
    state.sums, state.counts = dict(content["sums"]), dict(content["counts"])
    state.stopped, state.ended = plain.stopped, plain.ended
    with checkpoint_schema.naming_field("genotype"):
        state.genotype = None if plain.genotype is None else Genotype.from_json(plain.genotype)
    for place, one in enumerate(plain.decisions):
        with checkpoint_schema.naming_field(f"decisions.{place}"):
            state.decisions.append(Decision(Genotype.from_json(one.genotype), one.note))
    torch.set_num_threads(plain.threads)
    return state


def _check_place(method: Method, plain: checkpoint_schema.SavedSearch, plan: Plan) -> None:
    """Check that the place of a checkpoint lies inside the plan, or raise a ValueError.

    A method with a finalisation may train in further epochs after the last one.
    """
    last = plan.epochs - 1
    goes_on = method.patch.finalise is not None
    checkpoint_schema.check_bound(
        "epoch", plain.epoch, checkpoint_schema.MOST if goes_on else plan.epochs
    )
    steps = 0
    if goes_on or plain.epoch <= last:
        steps = method.stepper.steps(method, plan, min(plain.epoch, last))
    checkpoint_schema.check_bound("step", plain.step, steps)
    for name in ("dies", "ended"):
        checkpoint_schema.check_bound(name, getattr(plain, name) or 0, plan.epochs)
    checkpoint_schema.check_bound("born", plain.born, min(plain.epoch, plain.dies - 1))


def _check_tensors(state: State, plain: checkpoint_schema.SavedSearch) -> None:
    """Check that each tensor has the shape and type of a new one, or raise a ValueError."""
    checkpoint_schema.check_keys("nets", plain.nets, state.nets)
    for name, net in state.nets.items():
        checkpoint_schema.check_tensors(f"nets.{name}", plain.nets[name], net.state_dict())
    checkpoint_schema.check_tensors("alphas", plain.alphas, state.alphas)
    checkpoint_schema.check_keys("optimizers", plain.optimizers, state.optimizers)
    for name, optimizer in state.optimizers.items():
        checkpoint_schema.check_optimizer(f"optimizers.{name}", plain.optimizers[name], optimizer)
    checkpoint_schema.check_keys("memory", plain.memory, state.memory)
    for name, memory in state.memory.items():
        with checkpoint_schema.naming_field(f"memory.{name}"):
            fresh = memory.state_dict()
            checkpoint_schema.check_keys(f"memory.{name}", plain.memory[name], fresh)
            checkpoint_schema.check_like(f"memory.{name}", plain.memory[name], fresh)
    sums = dict.fromkeys(plain.counts, torch.zeros((), dtype=torch.float64))
    checkpoint_schema.check_tensors("sums", plain.sums, sums)


def _advice(path: Path, otherwise: str = "restore it from a copy") -> str:
    """Return advice on how to go on without the checkpoint ``path``."""
    if files.previous_path(path).exists():
        return f"go on from the one before it by `{command('resume', path.parent, '--previous')}`"
    return otherwise
