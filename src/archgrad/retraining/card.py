"""Save and load a trained network: ``network.json`` (its card) and ``weights.safetensors``.

The card holds everything that a new process needs to build the network and to read images. Each
file is written under another name and then renamed, so a killed process leaves the old file or the
new one.
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
from archgrad.errors import command, short_repr
from archgrad.retraining.schemas import CardFile
from archgrad.retraining.settings import RetrainSettings, settings_from
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
"""Name of the entry of the weights' metadata that holds their `digest`."""


@dataclass(frozen=True)
class Card:
    """Description of a network and of its training.

    Attributes:
        genotype: The architecture.
        space: Name of its search space.
        spec: Options of the space whose supernet is the network: one op on each edge, no auxiliary
            head.
        preprocess: Size, statistics and class names of the images.
        settings: Recipe of the training.
        seed: Seed of the training.
        device: Device of the training.
        threads: Number of threads of torch; another number changes the last digits.
        deterministic: Whether torch used deterministic algorithms.
        batch: Batch size of an evaluation; another size changes the last digits.
        data: Arguments of `archgrad.data.load`.
        reading: Arguments of `archgrad.data.retrain_data` that are not part of ``settings``.
        fingerprint: Fingerprint of the images (`archgrad.data.fingerprint`).
        plugins: Plugins that the space or a primitive may need.
    """

    genotype: Genotype
    space: str
    spec: Mapping[str, Any]
    preprocess: Preprocess
    settings: RetrainSettings
    seed: int
    device: str
    threads: int
    deterministic: bool
    batch: int
    data: Mapping[str, Any]
    reading: Mapping[str, Any]
    fingerprint: str
    plugins: tuple[str, ...] = ()

    @property
    def loading(self) -> dict[str, Any]:
        """Return the arguments of `archgrad.data.load` for the images of the training.

        A card without ``val`` comes from a training without validation images.
        """
        return {**self.data, "val": self.data.get("val") or "none"}

    def build(self, *, auxiliary: bool = False, fixed: bool = False) -> Derived:
        """Build the network with torch's initial weights.

        Args:
            auxiliary: Add the auxiliary head that the settings describe.
            fixed: Give the noise ops their fixed draws for evaluation (`archgrad.spaces.noise`).

        Returns:
            The network.

        Raises:
            ValueError: The network cannot be built, or its space has no auxiliary head.
        """
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
            noise.fix_noise(
                derived.network, self.preprocess.size, self.spec["in_channels"], self.seed
            )
        return derived

    def choose_device(self, device: torch.device | str | None = None) -> torch.device:
        """Return the device to compute on.

        Args:
            device: The wanted device. None selects the device of the training, or the CPU where
                this machine has no such device.

        Raises:
            ValueError: This machine lacks the wanted device.
        """
        import torch

        from archgrad import devices

        trained = self.device if devices.device_exists(self.device) else "cpu"
        return torch.device(devices.device_named(device or trained))

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``network.json``."""
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
        """Return the card that `to_json` wrote.

        Raises:
            ValueError: The content has another version, or a field is wrong.
        """
        if isinstance(data, Mapping) and data.get("version", VERSION) != VERSION:
            raise ValueError(
                f"it has version {short_repr(data['version'])}, "
                f"this archgrad reads version {VERSION}"
            )
        data = typed_json.check(data, CardFile)
        from archgrad.data import Preprocess

        made: dict[str, Any] = {
            "genotype": Genotype.from_json(data["genotype"]),
            "preprocess": Preprocess.from_json(data["preprocess"]),
            "settings": settings_from(data["settings"]),
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


def network_folder(path: str | Path) -> Path:
    """Return the folder of a network.

    Args:
        path: The folder itself, or the run folder of a search, which has the network's folder
            ``retrain`` in it.
    """
    inside = places.as_path(path, "folder") / "retrain"
    return inside if not (Path(path) / CARD).exists() and (inside / CARD).exists() else Path(path)


def check_free(folder: Path) -> list[Path]:
    """Check that a new training may write into a folder.

    Returns:
        The files that a killed process left before its training began; they may be removed.

    Raises:
        ValueError: A new training would overwrite other files.
    """
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
    """Write the card of a network into its folder.

    Raises:
        ValueError: `read_card` would refuse the card. This is known before the training begins.
    """
    text = json.dumps(card.to_json(), indent=1) + "\n"
    Card.from_json(json.loads(text))
    files.write(folder / CARD, text)


def read_card(folder: str | Path) -> Card:
    """Read the card of the network in a folder.

    Raises:
        ValueError: There is no such folder, no network was trained in it, or its card is damaged.
    """
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
        return Card.from_json(files.parse_json(path, files.read_text(path, typed_json.LIMIT)))
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({' '.join(str(error).split())}): restore it from a copy"
        ) from None


def save_weights(folder: Path, derived: Derived, card: Card) -> None:
    """Write the parameters, BatchNorm statistics and fixed noise draws of a network.

    Args:
        folder: The folder of the network.
        derived: The trained network. Its auxiliary head, if it has one, is not written.
        card: The card of the network.
    """
    import torch
    from safetensors.torch import save

    from archgrad.spaces import noise

    state = derived.state_dict()
    names = card.build(fixed=noise.are_fixed(state)).state_dict()
    # safetensors accepts neither channels_last nor tied tensors.
    plain = {
        name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        for name in names
    }
    path = folder / WEIGHTS
    with files.draft(path) as file:
        # A single entry of metadata: the library writes several ones in random order.
        file.write(save(plain, metadata={DIGEST: digest(plain)}))


def load(folder: str | Path) -> Network:
    """Load a trained network.

    Args:
        folder: The folder of the network, or the run folder of its search.

    Returns:
        The network, on the CPU and in evaluation mode, and its card.

    Raises:
        ValueError: A file is missing or damaged.
    """
    from archgrad.spaces import noise
    from archgrad.storage import checkpoint_schema

    folder = network_folder(folder)
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.exists():
        raise ValueError(
            f"the training in {folder} is not finished, so there are no weights: "
            f"{command('resume', folder)}"
        )
    state = read_weights(path)
    plugins.load(card.plugins, recorded=True)
    if plugins.are_missing():
        card.build()  # raises an error that names the missing plugin in full
    try:
        with checkpoint_schema.naming_field("weights"):
            # A network whose weights were recorded without noise draws draws anew in every pass.
            derived = card.build(fixed=noise.are_fixed(state))
            checkpoint_schema.check_tensors("weights", state, derived.state_dict())
            derived.load_state_dict(state)  # parameters stay channels_last, as in training
    except ValueError as error:
        raise ValueError(
            f"{path} belongs to another network or is damaged ({error}): restore it from a "
            "copy, or begin again"
        ) from None
    derived.eval()
    return Network(derived, card)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file of weights and check their digest.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU. A file without a digest is not checked.

    Raises:
        ValueError: The file is missing or damaged, or is no file of weights.
    """
    from safetensors import safe_open

    files.check_plain(path)
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = file.keys(), file.metadata() or {}
            state = {name: file.get_tensor(name) for name in names}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the library has its own exception types
        raise files.damaged(path, str(error)) from None
    found = digest(state)
    if metadata.keys() - {DIGEST, "format"} or metadata.get(DIGEST, found) != found:
        raise files.damaged(path, "its numbers are not those that were written")
    return state


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and numbers of tensors on the CPU."""
    import torch

    found = sha256()
    for name, tensor in sorted(state.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
