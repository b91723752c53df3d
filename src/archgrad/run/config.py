"""The settings of a search as one typed value, read from YAML files and the command line.

A file has the scalars of `SearchConfig` and its ``plugins`` at the top. Below are the sections
``search``, ``data``, ``space``, ``weights``, ``alphas``, ``stop``, ``budget``, ``diagnostics``,
``retrain`` and one for each method, by its name. ``data: PATH``, ``space: NAME`` and
``budget: macs=300M`` are short for their ``path``, ``name`` and ``targets``. Dashes and underscores
in names are equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    create_model,
)

from archgrad import options, plugins
from archgrad.arch.space import ALPHAS, WeightSettings
from archgrad.bounds import AUTO, check_device
from archgrad.errors import short_repr, unknown_name
from archgrad.observers.stopping import StopSettings
from archgrad.option_types import NotNegativeInt, Threads
from archgrad.retraining.settings import RetrainSettings
from archgrad.run import catalogue
from archgrad.run.sections import BudgetSettings, DataSettings, DiagnosticSettings, SearchSettings
from archgrad.storage import files, yaml_files

Given = dict[str, Any]
"""Settings as a file has them, without those that a user did not set."""

SHORT = {"data": "path", "space": "name", "budget": "targets"}
"""Section -> the option that a plain value in its place sets."""


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """All settings of a search. Those that are not set follow from the space and the images.

    ``space`` holds the space's ``name`` and options, ``weights`` and ``alphas`` hold fields of
    `WeightSettings` and `AlphaSettings`, and ``methods`` holds the options of each method by its
    name. ``retrain`` holds fields of `RetrainSettings`, for the retraining of the found network.
    """

    method: Annotated[
        str,
        Field(description="name of a method (`archgrad methods` lists them), or of several as a+b"),
    ] = "darts"
    seed: Annotated[
        NotNegativeInt,
        Field(
            description="seed of the split, batch order, augmentation, initial weights and all "
            "other random draws"
        ),
    ] = 0
    device: Annotated[
        str,
        AfterValidator(check_device),
        Field(description="device (auto, cpu, cuda or cuda:1); auto is a GPU if there is one"),
    ] = AUTO
    deterministic: Annotated[
        bool, Field(description="bit-identical results on a GPU too, at lower speed")
    ] = False
    threads: Annotated[
        Threads | None,
        Field(
            description="number of torch threads, which a resumed run keeps; the default follows "
            "from the feature map size and the processors"
        ),
    ] = None
    out: Annotated[
        Path | None, Field(description="run folder; by default runs/METHOD-SPACE-DATA-seedN")
    ] = None
    plugins: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        Field(
            description="names of Python modules that add methods, spaces or primitives; --plugin "
            "X is the short form"
        ),
    ] = ()
    search: SearchSettings = SearchSettings()
    data: DataSettings = DataSettings()
    space: Given = Field(default_factory=lambda: {"name": "nasbench201"})
    weights: Given = {}
    alphas: Given = {}
    budget: BudgetSettings = BudgetSettings()
    stop: StopSettings = StopSettings()
    diagnostics: DiagnosticSettings = DiagnosticSettings()
    methods: dict[str, Given] = {}
    retrain: Given = {}

    def to_mapping(self) -> Given:
        """Return the settings as a file has them, in plain values.

        Unset ones are left out, and so is ``out``, which does not belong to the experiment.
        """
        given = json.loads(self.model_dump_json(exclude_none=True, exclude={"out", "methods"}))
        given |= {name: json.loads(json.dumps(section)) for name, section in self.methods.items()}
        return {
            key: value
            for key, value in given.items()
            if value != {} and (key, value) != ("plugins", [])
        }

    def to_yaml(self) -> str:
        """Return the text of a settings file."""
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True, width=120)


SCALARS = ("method", "seed", "device", "deterministic", "threads", "out", "plugins")


def sections() -> dict[str, type[BaseModel]]:
    """Return the model of each section by name.

    The section of a method has the options of its function. The section ``space`` has the options
    of all spaces.

    Raises:
        ValueError: A method of a plugin has the name of a setting.
    """
    own: dict[str, type[BaseModel]] = {
        "search": SearchSettings,
        "data": DataSettings,
        "space": catalogue.space_options(),
        "weights": options.model(WeightSettings),
        "alphas": ALPHAS,
        "budget": BudgetSettings,
        "stop": StopSettings,
        "diagnostics": DiagnosticSettings,
        "retrain": options.model(RetrainSettings),
    }
    if taken := [name for name in catalogue.methods() if name in own or name in SCALARS]:
        raise ValueError(
            f"method {taken[0]!r} of a plugin has the name of a setting: give it another name"
        )
    return own | {name: catalogue.method_options(name) for name in catalogue.methods()}


def scalars() -> type[BaseModel]:
    """Return the model of the settings at the top of a file."""
    fields = {name: SearchConfig.model_fields[name] for name in SCALARS}
    whole: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    return create_model("Top", **whole)


def read(*sources: tuple[str, Mapping[str, Any]], recorded: bool = False) -> SearchConfig:
    """Merge several sources into the settings of a search, and import their plugins.

    Args:
        sources: The name of each source, for messages, and its settings as a file has them. Later
            sources win.
        recorded: If true, the settings come from a run folder. Then a plugin may be missing, and
            the options of its methods are not checked.

    Returns:
        The settings.

    Raises:
        ValueError: A name is unknown, a value has a wrong type or is out of range, or a section
            belongs to a method that is not used.
    """
    given: Given = {}
    origin: dict[str, str] = {}
    for where, settings in sources:
        with _errors_from(where):
            found = checked(settings, recorded=recorded)
        given = merged(given, found)
        origin |= dict.fromkeys(found, where)
    used = given.get("method", SearchConfig().method).split("+")
    lenient = recorded and plugins.are_missing()
    known = [*catalogue.methods(), *(used if lenient else ())]
    with _errors_from(origin.get("method", "")):
        for name in used:
            if name not in known:
                raise plugins.unknown("method", name, known)
    for name in given:
        # The options of DARTS are allowed with every method, because they set its step.
        if name in known and name not in (*used, "darts"):
            with _errors_from(origin[name]):
                both = "+".join(one for one in (*used, name) if one != "darts")
                raise ValueError(
                    f"section {name!r} belongs to a method that is not used: "
                    f"leave it out, or set the method to {both}"
                )
    methods = {name: given.pop(name) for name in list(given) if name in known}
    given["space"] = {**SearchConfig().space, **given.get("space", {})}
    return SearchConfig(**given, methods=methods)


def read_yaml(path: Path | str) -> tuple[str, Given]:
    """Read a settings file as a source of `read`.

    Raises:
        ValueError: The file is missing, is not a YAML mapping, or has a name twice.
    """
    path = Path(path)
    text = files.read_text(path, yaml_files.LIMIT)
    try:
        found = yaml_files.parse(text)
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(found or {}, Mapping):
        raise ValueError(
            f"{path}: settings are expected as 'name: value' lines, not {short_repr(found)}"
        )
    return str(path), dict(found or {})


def checked(given: Mapping[str, Any], *, recorded: bool = False) -> Given:
    """Check the settings of one source, and convert each value to its type.

    Args:
        given: The settings as a file has them. Settings that are null count as not set.
        recorded: As in `read`.

    Returns:
        The settings that are set.

    Raises:
        ValueError: As `read`.
    """
    spelled, top = _with_underscores(given), scalars()
    if spelled.get("plugins") is not None:
        spelled |= _converted("", top, {"plugins": spelled["plugins"]})
        plugins.load(spelled["plugins"], recorded=recorded)
    plugins.load_space(_named_space(spelled.get("space")))
    parts, lenient = sections(), recorded and plugins.are_missing()
    found: Given = {}
    for key, value in spelled.items():
        if value is None:
            continue
        if key in parts:
            if key in SHORT and isinstance(value, str | list):
                value = {SHORT[key]: value}
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{key}: a section of settings is expected here, not {short_repr(value)}"
                )
            if lenient and key == "space" and value.get("name", "") not in catalogue.spaces():
                raise plugins.unknown("space", value.get("name"), catalogue.spaces())
            found[key] = _converted(key, parts[key], _with_underscores(value))
        elif key in top.model_fields:
            found |= _converted("", top, {key: value})
        elif lenient and isinstance(value, Mapping):
            found[key] = dict(value)
        else:
            raise unknown_name("setting", key, [*top.model_fields, *parts])
    return found


def _named_space(given: Any) -> str:
    """Return the name of the space in a section of settings, empty if it has none."""
    name = given.get("name") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else ""


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Given:
    """Merge two sources, section by section. ``second`` wins."""
    both = {**first, **second}
    shared = [key for key in first if key in second and isinstance(first[key], Mapping)]
    if "plugins" in both:
        both["plugins"] = plugins.join(first.get("plugins", ()), second.get("plugins", ()))
    return both | {key: {**first[key], **second[key]} for key in shared}


@contextmanager
def _errors_from(where: str) -> Iterator[None]:
    """Put the name of a source in front of the errors that are raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def _converted(owner: str, kind: type[BaseModel], given: Mapping[str, Any]) -> Given:
    """Check names, and convert the values that are not null."""
    options.check_names(owner, kind, given)
    return options.values(
        owner, kind, {name: value for name, value in given.items() if value is not None}
    )


def _with_underscores(given: Mapping[Any, Any]) -> Given:
    """Replace the dashes in names, or raise a ValueError if a name is then there twice."""
    found: Given = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name in found:
            raise ValueError(
                f"{short_repr(name)} is set twice, also as {short_repr(key)}: leave out one of them"
            )
        found[name] = value
    return found
