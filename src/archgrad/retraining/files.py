"""A trained network on disk: ``weights.safetensors``, and ``network.json`` with all a fresh process needs to build it and to read images.

Everything is written beside and renamed, so that a kill leaves the old file or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad import files, schemas
from archgrad.arch import Genotype
from archgrad.errors import shown
from archgrad.retraining.settings import RetrainSettings, checked

if TYPE_CHECKING:
    import torch

    from archgrad.data import Preprocess
    from archgrad.spaces.derived import Derived

VERSION = 1
CARD, WEIGHTS = "network.json", "weights.safetensors"


@dataclass(frozen=True)
class Card:
    """What a network is and how it was trained. ``spec`` is of the space whose supernet it is: one op an edge, no auxiliary head."""

    genotype: Genotype
    space: str
    spec: Mapping[str, Any]
    preprocess: Preprocess
    settings: RetrainSettings
    seed: int
    device: str
    threads: int  # of torch: another number moves the last digits
    deterministic: bool
    batch: int  # of evaluation: another one moves the last digits
    data: Mapping[str, Any]  # what `archgrad.data.load` was called with
    reading: Mapping[str, Any]  # what `archgrad.data.retrain_data` was called with besides the settings
    fingerprint: str  # of those images

    def build(self, *, auxiliary: bool = False, fixed: bool = False) -> Derived:
        """The network, with torch's initial weights; ``fixed``: its noise ops have their draws for evaluation (`archgrad.spaces.noise`).
        ValueError if it cannot be built, or its space has no auxiliary head."""
        from archgrad.spaces import noise, space
        from archgrad.spaces.derived import Derived

        derived = Derived(self.genotype, space(self.space).resized(**{**self.spec, **({"auxiliary": True} if auxiliary else {})}))
        if fixed:
            noise.fix(derived.network, self.preprocess.size, self.spec["in_channels"], self.seed)
        return derived

    def place(self, device: torch.device | str | None = None) -> torch.device:
        """Where to run: by default where it was trained, or on the CPU if this machine has no such device."""
        import torch

        trained = self.device if torch.cuda.is_available() or not self.device.startswith("cuda") else "cpu"
        return torch.device(device or trained)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "genotype": self.genotype.to_json(),
            "preprocess": self.preprocess.to_json(),
            "settings": asdict(self.settings),
        }

    @classmethod
    def from_json(cls, data: Any) -> Card:
        """Inverse of `to_json`. ValueError if it is of another version, or a field is not as it should be."""
        if isinstance(data, Mapping) and data.get("version", VERSION) != VERSION:
            raise ValueError(f"it is of version {shown(data['version'])}, this archgrad reads version {VERSION}")
        data = schemas.checked(data, schemas.CardFile)
        from archgrad.data import Preprocess

        made: dict[str, Any] = {
            "genotype": Genotype.from_json(data["genotype"]),
            "preprocess": Preprocess.from_json(data["preprocess"]),
            "settings": checked(data["settings"]),
        }
        return cls(**{name: made.get(name, data[name]) for name in cls.__dataclass_fields__})


class Network(NamedTuple):
    """A trained network and its card."""

    derived: Derived
    card: Card


def home(path: str | Path) -> Path:
    """The folder of the network that ``path`` names: itself, or a search's run folder, in which the network lies under ``retrain``."""
    inside = Path(path) / "retrain"
    return inside if not (Path(path) / CARD).exists() and (inside / CARD).exists() else Path(path)


def write_card(folder: Path, card: Card) -> None:
    files.write(folder / CARD, json.dumps(card.to_json(), indent=1) + "\n")


def read_card(folder: str | Path) -> Card:
    """ValueError if there is no ``folder``, nothing was retrained in it yet, or its card is damaged."""
    path = Path(folder) / CARD
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}")
    if not path.exists():
        raise ValueError(f"no network was trained in {folder} yet: archgrad retrain {folder}")
    try:
        return Card.from_json(files.parsed(path, files.text(path, schemas.LIMIT)))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}): restore it from a copy") from None


def save_weights(folder: Path, derived: Derived, card: Card) -> None:
    """Parameters, BatchNorm statistics and draws of noise of the card's network; an auxiliary head of ``derived`` stays out."""
    import torch
    from safetensors.torch import save

    from archgrad.spaces import noise

    state = derived.state_dict()
    names = card.build(fixed=noise.are_fixed(state)).state_dict()
    # safetensors takes neither channels_last nor tied tensors.
    plain = {name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format) for name in names}
    path = folder / WEIGHTS
    with files.draft(path) as file:
        file.write(save(plain, metadata={"format": "pt"}))


def load(folder: str | Path) -> Network:
    """The trained network of a folder (see `home`), on the CPU, in evaluation mode. ValueError in one line for what is missing or damaged."""
    from safetensors.torch import load_file

    from archgrad.spaces import noise

    folder = home(folder)
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.exists():
        raise ValueError(f"the training in {folder} has not reached its end, so there are no weights: archgrad resume {folder}")
    try:
        state = load_file(path)
        derived = card.build(fixed=noise.are_fixed(state))  # weights recorded without draws go on drawing in every pass
        derived.load_state_dict(state)  # into channels_last parameters, as they were trained
    except Exception as error:  # a damaged file, or one of another network
        raise ValueError(f"{path} is damaged or of another network ({str(error).splitlines()[0]}): restore it from a copy") from None
    derived.eval()
    return Network(derived, card)
