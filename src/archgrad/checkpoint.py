"""A `State` on disk: written atomically, read with ``weights_only=True``. Holds dicts, lists, tensors and Python scalars only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from archgrad import files
from archgrad.arch import Genotype
from archgrad.finite import check_whole
from archgrad.patch import Decision
from archgrad.search_method import Method
from archgrad.state import Plan, State

VERSION = 3


def pack(method: Method, state: State) -> dict[str, Any]:
    """All of a state. Written out by hand: saving by reflection takes what it should not and misses ties.

    ValueError if the search has diverged: the checkpoint before it is worth more.
    """
    check_whole(method, state)
    return {
        "version": VERSION,
        "method": method.name,
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
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "memory": {name: memory.state_dict() for name, memory in state.memory.items()},
        "sums": state.sums,
        "counts": state.counts,
        "stopped": state.stopped,
        "ended": state.ended,
        "genotype": state.genotype and json.dumps(state.genotype.to_json()),
        "decisions": [{"genotype": json.dumps(d.genotype.to_json()), "note": json.dumps(d.note)} for d in state.decisions],
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a draft that becomes ``path``: a kill at any moment leaves the old file or the new one, whole."""
    with files.draft(path) as file:
        torch.save(content, file)


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """ValueError in one line if the file is missing, cut short or not ours."""
    if not path.exists():
        raise ValueError(f"there is no checkpoint {path}: the run stopped before its first one; start it again")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise ValueError(f"checkpoint {path} is damaged and cannot be read ({type(error).__name__}): restore it from a copy") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path} is not a checkpoint of this version of archgrad (version {VERSION})")
    return content


def restore(method: Method, content: dict[str, Any], device: torch.device | str = "cpu") -> State:
    """The state a checkpoint holds. Sets torch's number of threads to the recorded one: convolution gradients depend on it."""
    if content["method"] != method.name:
        raise ValueError(f"the checkpoint belongs to method {content['method']!r}, not {method.name!r}")
    torch.set_num_threads(content["threads"])
    state = State(content["seed"], Plan(**content["plan"]), torch.device(device), content["precision"], method.space)
    state.epoch, state.step = content["epoch"], content["step"]
    method.build(state, method.space.resized(**json.loads(content["spec"])))
    state.born, state.dies = content["born"], content["dies"]
    for name, net in state.nets.items():
        net.load_state_dict(content["nets"][name])
    for name, a in state.alphas.items():
        a.data.copy_(content["alphas"][name])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(content["optimizers"][name])
    for name, memory in state.memory.items():
        memory.load_state_dict(content["memory"][name])
    state.sums, state.counts = dict(content["sums"]), dict(content["counts"])
    state.stopped, state.ended = content["stopped"], content.get("ended")
    state.genotype = content["genotype"] and Genotype.from_json(json.loads(content["genotype"]))
    state.decisions = [Decision(Genotype.from_json(json.loads(d["genotype"])), json.loads(d["note"])) for d in content["decisions"]]
    return state
