"""What was measured, and of what: a file that only answers for the very device, software and networks that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch

from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space
from archgrad.bounds import BATCH, SIDE, THREADS
from archgrad.cost.cost import Added, Cost
from archgrad.errors import command, shown
from archgrad.latency.schemas import LatencyFile
from archgrad.latency.timing import hardware
from archgrad.storage import files, typed_json
from archgrad.storage.cache_folder import checked, default_cache, made

NAMES = {"hardware": "device", "spec": "options of the space", "size": "image size"}
OPTIONS = ("channels", "cells", "classes", "in_channels")


@dataclass(frozen=True)
class Setting:
    """Of what a latency is: derived networks of a space, on a machine."""

    space: str
    spec: Mapping[str, Any]  # of `Space.evaluation`
    size: int  # side of the images
    batch: int
    device: str  # "cpu" | "cuda"
    hardware: str  # the device's own name
    threads: int
    torch: str

    def command(self) -> str:
        """The command line that measures it."""
        options = {name: self.spec[name] for name in OPTIONS if name in self.spec}
        said = {
            "space": self.space,
            "size": self.size,
            **options,
            "batch": self.batch,
            "device": self.device,
            "threads": self.threads,
        }
        return command(
            "latency",
            *(
                part
                for name, value in said.items()
                for part in (f"--{name.replace('_', '-')}", value)
            ),
        )


def setting(
    space: Space,
    size: int,
    *,
    batch: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    **options: Any,
) -> Setting:
    """Of the networks that ``space.derive(genotype, **options)`` gives, here. ``threads``: torch's as they are, unless given."""
    for name, value, most in (
        ("size", size, SIDE),
        ("batch", batch, BATCH),
        ("threads", threads, THREADS),
    ):
        if value is not None and not 1 <= value <= most:
            raise ValueError(
                f"{name} must be at {'least 1' if value < 1 else f'most {most:,}'}, not {shown(value)}"
            )
    spec = json.loads(json.dumps(space.evaluation(**options).spec()))
    number = torch.get_num_threads() if threads is None else threads
    return Setting(
        space.name, spec, size, batch, device, hardware(device), number, torch.__version__
    )


class Net(NamedTuple):
    """A derived network that was measured whole: what its ops add up to, and what it takes, ms."""

    genotype: Genotype
    added: float
    measured: float


@dataclass(frozen=True)
class Profile:
    """Op by op and calibrated: a network takes ``base + scale * sum of its ops`` ms."""

    setting: Setting
    ops: Added  # ms, measured one by one
    base: float
    scale: float
    r2: float
    worst: float  # largest relative error among ``nets``
    nets: tuple[Net, ...]  # that ``base`` and ``scale`` are the least squares of
    date: str

    def cost(self) -> Cost:
        """Latency as a `Cost`, in ms."""
        ops = {
            group: {place: self.scale * ms for place, ms in added.items()}
            for group, added in self.ops.items()
        }
        return Cost("latency", "ms", self.base, ops)

    def to_json(self) -> dict[str, Any]:
        ops = {
            group: [[*place, ms] for place, ms in added.items()]
            for group, added in self.ops.items()
        }
        nets = [
            {"genotype": net.genotype.to_json(), "added": net.added, "measured": net.measured}
            for net in self.nets
        ]
        return {**{name: getattr(self, name) for name in ("base", "scale", "r2", "worst", "date")},
                "setting": asdict(self.setting), "ops": ops, "nets": nets}  # fmt: skip

    @classmethod
    def from_json(cls, data: LatencyFile) -> Profile:
        """Inverse of `to_json`."""
        ops = {
            group: {(s, t, name): ms for s, t, name, ms in rows}
            for group, rows in data["ops"].items()
        }
        nets = tuple(
            Net(Genotype.from_json(net["genotype"]), net["added"], net["measured"])
            for net in data["nets"]
        )
        setting = Setting(**data["setting"])
        return cls(
            setting, ops, data["base"], data["scale"], data["r2"], data["worst"], nets, data["date"]
        )


def place(wanted: Setting) -> Path:
    """Where its file is kept unless told otherwise: ``~/.cache/archgrad/latency``. ValueError where that belongs to another user."""
    key = sha256(json.dumps(asdict(wanted), sort_keys=True).encode()).hexdigest()[:12]
    return checked(default_cache()) / "latency" / f"{wanted.space}-{wanted.device}-{key}.json"


def write(found: Profile, path: Path) -> None:
    made(path.parent)
    files.write(path, json.dumps(found.to_json()) + "\n")


def read(path: Path, wanted: Setting) -> Profile:
    """The file at ``path``. ValueError if it is no such file, or of another device, torch, space, size, batch or number of threads: it names
    the first, and the command that measures anew."""
    try:
        found = recorded(path)
    except ValueError as error:
        why = str(error).removeprefix(f"{path} is damaged: ")
        raise ValueError(
            f"{path} holds no latencies: write them by `{wanted.command()} --out {path}` ({why})"
        ) from None
    for field in fields(Setting):
        has, wants = getattr(found.setting, field.name), getattr(wanted, field.name)
        if has != wants:
            if field.name == "spec":
                has, wants = (
                    {
                        name: spec.get(name)
                        for name in {**has, **wants}
                        if has.get(name) != wants.get(name)
                    }
                    for spec in (has, wants)
                )
            raise ValueError(
                f"{path} was measured with another {NAMES.get(field.name, field.name)}, {has!r}, not {wants!r}: measure anew by "
                f"`{wanted.command()} --out {path}`"
            )
    return found


def recorded(path: Path) -> Profile:
    """The file at ``path``, whatever it was measured on: what a run in progress was begun with. ValueError if it is no such file."""
    return Profile.from_json(typed_json.read(path, LatencyFile))


def find(wanted: Setting) -> Profile:
    """The file that `archgrad latency` keeps. ValueError where there is none names the command that measures it."""
    path = place(wanted)
    if not path.exists():
        how = f"`{wanted.command()}` does, or with --config the settings of a search in a space of your own form"
        raise ValueError(
            f"no latency of these networks was measured on {wanted.hardware!r} yet: {how}"
        )
    return read(path, wanted)
