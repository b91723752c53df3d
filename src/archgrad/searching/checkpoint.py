"""A `State` on disk: sealed and written in one step, read with ``weights_only=True``. Holds dicts, lists, tensors and Python scalars only.

The checkpoint before the last stays beside it, for the day on which the last one is damaged.
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
from archgrad.errors import command, out_of_memory, shown
from archgrad.searching import checks
from archgrad.searching.finite import check_whole
from archgrad.searching.types import Decision, Method, Plan, State
from archgrad.storage import files, saved, seals
from archgrad.storage.saved import VERSION


def pack(method: Method, state: State) -> dict[str, Any]:
    """All of a state. Written out by hand: saving by reflection takes what it should not and misses ties.

    ValueError if the state is of another method, or the search has diverged: the checkpoint before it is worth more.
    """
    checks.check_state(method, state)
    check_whole(method, state)
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
        "alphas": {name: a.detach() for name, a in state.alphas.items()},
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
            {"genotype": json.dumps(d.genotype.to_json()), "note": json.dumps(d.note)}
            for d in state.decisions
        ],
    }


def save(path: Path | str, content: dict[str, Any]) -> None:
    """Writes a draft that becomes ``path``: a kill at any moment leaves the old file or the new one, whole. The old one is kept, too."""
    path = Path(path)
    with seals.sealed(path, files.previous(path)) as file:
        torch.save(content, cast("IO[bytes]", file))  # it writes and flushes


def wanted(path: Path, back: bool) -> Path:
    """The checkpoint to go on from: ``path``, which need not be there yet, or the one before it. ValueError where that one is not there, or
    is there alone."""
    found = files.previous(path)
    if back and not found.exists():
        raise ValueError(f"there is no checkpoint before the last ({found}): leave out --previous")
    if not back and found.exists() and not path.exists():
        raise ValueError(f"there is no checkpoint {path}: {_instead(path)}")
    return found if back else path


def go_back(path: Path) -> None:
    """Makes the checkpoint before the last the last one. OSError names ``path``."""
    files.keep(files.previous(path), path)


def read(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a checkpoint holds, once its seal is found right.

    Args:
        path: The checkpoint.
        device: Where its tensors are put.

    Returns:
        What was saved; `restore` checks it against a method.

    Raises:
        ValueError: In one line: the file is missing, damaged or not ours.
        OSError: It cannot be read.
    """
    device_named(device)
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"there is no checkpoint {path}: {_instead(path, 'the run stopped before its first one; start it again')}"
        )
    files.check_plain(path)
    try:
        with files.named(path), files.opened(path) as file:
            seals.check(file)
            content = torch.load(file, map_location=device, weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        if out_of_memory(error):
            raise
        why = str(error) if type(error) is ValueError else type(error).__name__
        raise ValueError(
            f"checkpoint {path} is damaged and cannot be read ({why}): {_instead(path)}"
        ) from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(
            f"{path} is not a checkpoint of this version of archgrad (version {VERSION})"
        )
    return content


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """A ValueError inside, of content that does not fit the run, names ``path`` and the way out."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"checkpoint {path} does not fit its run ({error}): {_instead(path)}"
        ) from None


def load(path: Path | str, method: Method, device: torch.device | str = "cpu") -> State:
    """The state in a file: `read`, then `restore`. ValueError names the file, the part of it that is wrong, and the way out."""
    content = read(path, device)
    with fitting(Path(path)):
        return restore(method, content, device)


def restore(method: Method, content: dict[str, Any], device: torch.device | str = "cpu") -> State:
    """The state a checkpoint holds. Sets torch's number of threads to the recorded one: convolution gradients depend on it.

    Args:
        method: The method that it is of.
        content: What `read` found.
        device: Where the state is to be.

    Returns:
        The state. Until all of ``content`` is checked, nothing in the process has changed.

    Raises:
        ValueError: A part is of another method, or it is not what a state built anew has in its place.
    """
    if content.get("method") != method.name:
        raise ValueError(
            f"the checkpoint belongs to method {shown(content.get('method'))}, not {method.name!r}"
        )
    plain = saved.plain(saved.SavedSearch, content)
    plan = Plan(**plain.plan.model_dump())
    _check_place(method, plain, plan)
    if plain.identity is not None:
        checks.check_identity("checkpoint", plain.identity, method.identity(plan))
    state = State(
        plain.seed, plan, torch.device(device_named(device)), plain.precision, method.space
    )
    state.epoch, state.step = plain.epoch, plain.step
    with saved.naming("spec"):
        method.build(state, method.space.resized(**plain.spec))
    state.born, state.dies = plain.born, plain.dies
    _check_tensors(state, plain)
    for name, net in state.nets.items():
        net.load_state_dict(content["nets"][name])
    for name, a in state.alphas.items():
        a.data.copy_(content["alphas"][name])
    for name, optimizer in state.optimizers.items():
        with saved.naming(f"optimizers.{name}"):
            optimizer.load_state_dict(content["optimizers"][name])
    for name, memory in state.memory.items():
        with saved.naming(f"memory.{name}"):
            memory.load_state_dict(content["memory"][name])
    state.sums, state.counts = dict(content["sums"]), dict(content["counts"])
    state.stopped, state.ended = plain.stopped, plain.ended
    with saved.naming("genotype"):
        state.genotype = None if plain.genotype is None else Genotype.from_json(plain.genotype)
    for place, one in enumerate(plain.decisions):
        with saved.naming(f"decisions.{place}"):
            state.decisions.append(Decision(Genotype.from_json(one.genotype), one.note))
    torch.set_num_threads(plain.threads)
    return state


def _check_place(method: Method, plain: saved.SavedSearch, plan: Plan) -> None:
    """ValueError where a place lies outside the plan. A method that decides after the last epoch may learn on in further ones."""
    last = plan.epochs - 1
    later = method.patch.finalise is not None
    saved.check_bound("epoch", plain.epoch, saved.MOST if later else plan.epochs)
    saved.check_bound(
        "step",
        plain.step,
        method.stepper.steps(method, plan, min(plain.epoch, last))
        if later or plain.epoch <= last
        else 0,
    )
    for name in ("dies", "ended"):
        saved.check_bound(name, getattr(plain, name) or 0, plan.epochs)
    saved.check_bound("born", plain.born, min(plain.epoch, plain.dies - 1))


def _check_tensors(state: State, plain: saved.SavedSearch) -> None:
    """ValueError where a tensor is not like the one that was built anew."""
    saved.check_keys("nets", plain.nets, state.nets)
    for name, net in state.nets.items():
        saved.check_tensors(f"nets.{name}", plain.nets[name], net.state_dict())
    saved.check_tensors("alphas", plain.alphas, state.alphas)
    saved.check_keys("optimizers", plain.optimizers, state.optimizers)
    for name, optimizer in state.optimizers.items():
        saved.check_optimizer(f"optimizers.{name}", plain.optimizers[name], optimizer)
    saved.check_keys("memory", plain.memory, state.memory)
    for name, memory in state.memory.items():
        with saved.naming(f"memory.{name}"):
            fresh = memory.state_dict()
            saved.check_keys(f"memory.{name}", plain.memory[name], fresh)
            saved.check_like(f"memory.{name}", plain.memory[name], fresh)
    saved.check_tensors(
        "sums", plain.sums, dict.fromkeys(plain.counts, torch.zeros((), dtype=torch.float64))
    )


def _instead(path: Path, otherwise: str = "restore it from a copy") -> str:
    """How to go on without ``path``."""
    return (
        f"go on from the one before it by `{command('resume', path.parent, '--previous')}`"
        if files.previous(path).exists()
        else otherwise
    )
