"""A trained network on disk: ``weights.safetensors``, and ``network.json`` with all a fresh process needs to build it and to read images.

Everything is written beside and renamed, so that a kill leaves the old file or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from archgrad import plugins
from archgrad.arch.genotype import Genotype
from archgrad.data import places
from archgrad.errors import command, shortened, shown
from archgrad.retraining.schemas import CardFile
from archgrad.retraining.settings import RetrainSettings, checked
from archgrad.storage import files, typed_json
from archgrad.storage.folder import SETTINGS, leftovers

if TYPE_CHECKING:
    import torch

    from archgrad.data import Preprocess
    from archgrad.spaces.derived import Derived
    from archgrad.spaces.stems import Auxiliary

VERSION = 1
CARD, WEIGHTS = "network.json", "weights.safetensors"
DIGEST = "sha256"
"""Where the weights say what `digest` made of them."""


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
    data: Mapping[str, Any]  # what `archgrad.data.loading` was called with
    reading: Mapping[
        str, Any
    ]  # what `archgrad.data.retrain_data` was called with besides the settings
    fingerprint: str  # of those images
    plugins: tuple[str, ...] = ()  # which its space or a primitive of it may be of

    @property
    def loading(self) -> dict[str, Any]:
        """Arguments of `archgrad.data.loading`. A card without the name of validation images is of a training without them."""
        return {**self.data, "val": self.data.get("val") or "none"}

    def build(self, *, auxiliary: bool = False, fixed: bool = False) -> Derived:
        """The network, with torch's initial weights; ``auxiliary``: with the head that its settings describe; ``fixed``: its noise ops have
        their draws for evaluation (`archgrad.spaces.noise`). ValueError if it cannot be built, or its space has no auxiliary head."""
        from archgrad.spaces import noise, space
        from archgrad.spaces.derived import Derived

        plugins.load(self.plugins, recorded=True)
        derived = Derived(
            self.genotype,
            space(self.space).resized(
                **{**self.spec, **({"auxiliary": True} if auxiliary else {})}
            ),
        )
        if auxiliary and self.settings.auxiliary_bn:
            cast("Auxiliary", derived.network.auxiliary).normalise()
        if fixed:
            noise.fix(derived.network, self.preprocess.size, self.spec["in_channels"], self.seed)
        return derived

    def place(self, device: torch.device | str | None = None) -> torch.device:
        """Where to run: by default where it was trained, or on the CPU if this machine has no such device."""
        import torch

        from archgrad import devices

        trained = self.device if devices.is_here(self.device) else "cpu"
        return torch.device(devices.device_named(device or trained))

    def to_json(self) -> dict[str, Any]:
        fields = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name != "plugins" or self.plugins
        }
        return {
            "version": VERSION,
            **fields,
            "genotype": self.genotype.to_json(),
            "preprocess": self.preprocess.to_json(),
            "settings": asdict(self.settings),
        }

    @classmethod
    def from_json(cls, data: Any) -> Card:
        """Inverse of `to_json`. ValueError if it is of another version, or a field is not as it should be."""
        if isinstance(data, Mapping) and data.get("version", VERSION) != VERSION:
            raise ValueError(
                f"it is of version {shown(data['version'])}, this archgrad reads version {VERSION}"
            )
        data = typed_json.checked(data, CardFile)
        from archgrad.data import Preprocess

        made: dict[str, Any] = {
            "genotype": Genotype.from_json(data["genotype"]),
            "preprocess": Preprocess.from_json(data["preprocess"]),
            "settings": checked(data["settings"]),
            "plugins": tuple(data.get("plugins", ())),
        }
        return cls(
            **{
                name: made[name] if name in made else data[name]
                for name in cls.__dataclass_fields__
            }
        )


class Network(NamedTuple):
    """A trained network and its card."""

    derived: Derived
    card: Card


def home(path: str | Path) -> Path:
    """The folder of the network that ``path`` names: itself, or a search's run folder, in which the network lies under ``retrain``."""
    inside = places.checked(path, "folder") / "retrain"
    return inside if not (Path(path) / CARD).exists() and (inside / CARD).exists() else Path(path)


def check_free(folder: Path) -> list[Path]:
    """What a kill left of a training that had not begun. ValueError if a new one would write over anything else."""
    if (folder / SETTINGS).exists():
        raise ValueError(f"{folder} holds a search: choose another --out")
    if (folder / CARD).exists():
        way = (
            f"see `{command('evaluate', folder)}`"
            if (folder / WEIGHTS).exists()
            else f"go on with `{command('resume', folder)}`"
        )
        raise ValueError(f"{folder} holds a network already: {way}, or choose another --out")
    return leftovers(folder, folder / CARD)


def write_card(folder: Path, card: Card) -> None:
    """ValueError where `read_card` would refuse it, which is better told before the training than after it."""
    text = json.dumps(card.to_json(), indent=1) + "\n"
    Card.from_json(json.loads(text))
    files.write(folder / CARD, text)


def read_card(folder: str | Path) -> Card:
    """ValueError if there is no ``folder``, nothing was retrained in it yet, or its card is damaged."""
    path = Path(folder) / CARD
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}")
    if not path.exists() and not (Path(folder) / SETTINGS).exists():
        raise ValueError(
            f"there is neither a run nor a trained network in {folder}: name the folder of one"
        )
    if not path.exists():
        raise ValueError(f"no network was trained in {folder} yet: {command('retrain', folder)}")
    try:
        return Card.from_json(files.parsed(path, files.text(path, typed_json.LIMIT)))
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({' '.join(str(error).split())}): restore it from a copy"
        ) from None


def save_weights(folder: Path, derived: Derived, card: Card) -> None:
    """Parameters, BatchNorm statistics and draws of noise of the card's network; an auxiliary head of ``derived`` stays out."""
    import torch
    from safetensors.torch import save

    from archgrad.spaces import noise

    state = derived.state_dict()
    names = card.build(fixed=noise.are_fixed(state)).state_dict()
    # safetensors takes neither channels_last nor tied tensors.
    plain = {
        name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in names
    }
    path = folder / WEIGHTS
    with files.draft(path) as file:
        file.write(
            save(plain, metadata={DIGEST: digest(plain)})
        )  # one entry: of several the library mixes the order


def load(folder: str | Path) -> Network:
    """The trained network of a folder (see `home`), on the CPU, in evaluation mode. ValueError in one line for what is missing or damaged."""
    from archgrad.spaces import noise
    from archgrad.storage import saved

    folder = home(folder)
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.exists():
        raise ValueError(
            f"the training in {folder} has not reached its end, so there are no weights: {command('resume', folder)}"
        )
    state = read_weights(path)
    plugins.load(card.plugins, recorded=True)
    if plugins.missing():
        card.build()  # or it says of which plugin its space is, in words that nothing shortens
    try:
        with saved.naming("weights"):
            derived = card.build(
                fixed=noise.are_fixed(state)
            )  # weights recorded without draws go on drawing in every pass
            saved.check_tensors("weights", state, derived.state_dict())
            derived.load_state_dict(state)  # into channels_last parameters, as they were trained
    except ValueError as error:
        raise ValueError(
            f"{path} is of another network, or damaged ({error}): restore it from a copy"
        ) from None
    derived.eval()
    return Network(derived, card)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of weights, on the CPU. ValueError where one of them is not the one that was written, or the file is no such file;
    weights that were recorded without a digest are not held to one."""
    from safetensors import safe_open

    files.check_plain(path)
    try:
        with safe_open(path, framework="pt") as file:
            names, told = file.keys(), file.metadata() or {}
            state = {name: file.get_tensor(name) for name in names}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of the library's own kinds
        raise ValueError(
            f"{path} is damaged ({shortened(str(error), 120)}): restore it from a copy"
        ) from None
    if told.keys() - {DIGEST, "format"} or told.get(DIGEST, own := digest(state)) != own:
        raise ValueError(
            f"{path} is damaged (its numbers are not those that were written): restore it from a copy"
        )
    return state


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names, types, shapes and numbers of tensors on the CPU, as hexadecimal digits."""
    import torch

    found = sha256()
    for name, tensor in sorted(state.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
