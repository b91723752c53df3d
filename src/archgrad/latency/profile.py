"""A latency measurement and its file, valid only for one device, software and kind of networks."""

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
from archgrad.errors import command, short_repr
from archgrad.latency.schemas import LatencyFile
from archgrad.latency.timing import hardware
from archgrad.storage import files, typed_json
from archgrad.storage.cache_folder import check_owner, create, default_cache

NAMES = {"hardware": "device", "spec": "options of the space", "size": "image size"}
OPTIONS = ("channels", "cells", "classes", "in_channels")


@dataclass(frozen=True)
class Setting:
    """The subject of a latency measurement: derived networks of a space, on one machine."""

    space: str
    spec: Mapping[str, Any]  # options of `Space.evaluation`
    size: int  # side of the images in pixels
    batch: int
    device: str  # "cpu" | "cuda"
    hardware: str  # name of the processor or the GPU model
    threads: int
    torch: str

    def command(self) -> str:
        """Return the command line that makes this measurement."""
        options = {name: self.spec[name] for name in OPTIONS if name in self.spec}
        flags = {
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
                for name, value in flags.items()
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
    """Return the setting of networks ``space.derive(genotype, **options)`` on this machine.

    Args:
        space: The search space.
        size: Side of the images in pixels.
        batch: Batch size.
        device: "cpu" or "cuda".
        threads: Number of torch's threads; by default the present one.
        options: Options of the derived networks.

    Returns:
        The setting.

    Raises:
        ValueError: A number is out of range, or this machine has no such device.
    """
    for name, value, most in (
        ("size", size, SIDE),
        ("batch", batch, BATCH),
        ("threads", threads, THREADS),
    ):
        if value is not None and not 1 <= value <= most:
            bound = "least 1" if value < 1 else f"most {most:,}"
            raise ValueError(f"{name} must be at {bound}, not {short_repr(value)}")
    if "size" in space.spec():
        options = {"size": size} | options
    spec = json.loads(json.dumps(space.evaluation(**options).spec()))
    number = torch.get_num_threads() if threads is None else threads
    return Setting(
        space.name, spec, size, batch, device, hardware(device), number, torch.__version__
    )


class MeasuredNetwork(NamedTuple):
    """A derived network that was measured whole: the sum of its ops and its latency, both in ms."""

    genotype: Genotype
    added: float
    measured: float


@dataclass(frozen=True)
class Profile:
    """A measurement: a network takes ``base + scale * (sum of its ops)`` ms."""

    setting: Setting
    ops: Added  # ms, each op measured alone
    base: float  # ms
    scale: float
    r2: float
    worst: float  # largest relative error among ``nets``
    nets: tuple[MeasuredNetwork, ...]  # the networks to which ``base`` and ``scale`` are fitted
    date: str

    def cost(self) -> Cost:
        """Return the latency as a `Cost` in ms."""
        ops = {
            group: {place: self.scale * ms for place, ms in added.items()}
            for group, added in self.ops.items()
        }
        return Cost("latency", "ms", self.base, ops)

    def to_json(self) -> dict[str, Any]:
        """Return the profile as values for JSON, the content of its file."""
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
        """Return the profile that `to_json` wrote."""
        ops = {
            group: {(s, t, name): ms for s, t, name, ms in rows}
            for group, rows in data["ops"].items()
        }
        nets = tuple(
            MeasuredNetwork(Genotype.from_json(net["genotype"]), net["added"], net["measured"])
            for net in data["nets"]
        )
        setting = Setting(**data["setting"])
        return cls(
            setting, ops, data["base"], data["scale"], data["r2"], data["worst"], nets, data["date"]
        )


def default_file(wanted: Setting) -> Path:
    """Return the default file of a measurement, in ``~/.cache/archgrad/latency``.

    Args:
        wanted: The setting of the measurement.

    Returns:
        The path of the file.

    Raises:
        ValueError: The cache folder belongs to another user.
    """
    key = sha256(json.dumps(asdict(wanted), sort_keys=True).encode()).hexdigest()[:12]
    name = wanted.space.replace(":", "_")  # of a module of the user's own
    return check_owner(default_cache()) / "latency" / f"{name}-{wanted.device}-{key}.json"


def write(found: Profile, path: Path) -> None:
    """Write a profile to a file, and make its folder if it is missing."""
    create(path.parent)
    files.write(path, json.dumps(found.to_json()) + "\n")


def read(path: Path, wanted: Setting) -> Profile:
    """Read a profile and check that it belongs to a setting.

    Args:
        path: The file.
        wanted: The setting.

    Returns:
        The profile.

    Raises:
        ValueError: The file is no profile, or its setting differs (device, torch, space, size,
            batch or number of threads). The message names the first difference and the command
            that measures again.
    """
    try:
        found = read_unchecked(path)
    except ValueError as error:
        why = str(error).removeprefix(f"{path} is damaged (").partition("): restore ")[0]
        raise ValueError(
            f"{path} is no latency file: write one with `{wanted.command()} --out {path}` ({why})"
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
                f"{path} was measured with another {NAMES.get(field.name, field.name)}, "
                f"{has!r}, not {wants!r}: measure again with `{wanted.command()} --out {path}`"
            )
    return found


def read_unchecked(path: Path) -> Profile:
    """Read a profile without a check of its setting, such as the one a run began with.

    Args:
        path: The file.

    Returns:
        The profile.

    Raises:
        ValueError: The file is no profile.
    """
    return Profile.from_json(typed_json.read(path, LatencyFile))


def find(wanted: Setting) -> Profile:
    """Read the profile that `archgrad latency` wrote to its default file.

    Args:
        wanted: The setting.

    Returns:
        The profile.

    Raises:
        ValueError: There is no such file, or its setting differs. The message names the command
            that measures.
    """
    path = default_file(wanted)
    if not path.exists():
        raise ValueError(
            f"no latency of these networks was measured on {wanted.hardware!r} yet: "
            f"measure it with `{wanted.command()}`, or with --config and the settings of a search "
            "whose space has options of your own"
        )
    return read(path, wanted)
