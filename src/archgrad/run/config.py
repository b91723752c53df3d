"""What a search is made of, as one typed value: read from YAML and the command line, checked in one place, written back in full.

A file has the scalars of `SearchConfig` and its ``plugins`` at its top, and the sections ``search``, ``data``, ``space``, ``weights``,
``alphas``, ``stop``, ``budget``, ``diagnostics``, ``retrain`` and one for each method, by its name. ``data: PATH``, ``space: NAME`` and
``budget: macs=300M`` are short for their ``path``, ``name`` and ``targets``.
Dashes and underscores are equal.
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
from archgrad.bounds import check_device
from archgrad.errors import shown, unknown
from archgrad.observers.stopping import StopSettings
from archgrad.option_types import NotNegativeInt, Threads
from archgrad.retraining.settings import RetrainSettings
from archgrad.run import catalogue
from archgrad.run.sections import BudgetSettings, DataSettings, DiagnosticSettings, SearchSettings
from archgrad.storage import files, yaml_files

Given = dict[str, Any]
"""Settings as a file has them; only what was said."""

SHORT = {"data": "path", "space": "name", "budget": "targets"}


class SearchConfig(BaseModel, frozen=True, extra="forbid"):
    """A whole search. ``space`` holds the space's ``name`` and options; ``weights`` and ``alphas`` fields of `WeightSettings` and
    `AlphaSettings`; ``methods`` the options of each method by its name; ``retrain`` is for the retraining of what is found, fields of
    `RetrainSettings`. What is not said follows from the space and the data."""

    method: Annotated[
        str,
        Field(
            description="name of a method, as `archgrad methods` lists them, or of several, as a+b"
        ),
    ] = "darts"
    seed: Annotated[
        NotNegativeInt,
        Field(
            description="number that decides split, order, augmentation, first weights and every draw"
        ),
    ] = 0
    device: Annotated[
        str,
        AfterValidator(check_device),
        Field(
            description="device to compute on: auto (a GPU where there is one), cpu, cuda, cuda:1"
        ),
    ] = "auto"
    deterministic: Annotated[
        bool, Field(description="bit for bit on a GPU too, at some cost (a CPU always is)")
    ] = False
    threads: Annotated[
        Threads | None,
        Field(
            description="threads of torch, by default by size and processors; a resumed run keeps its own"
        ),
    ] = None
    out: Annotated[
        Path | None, Field(description="run folder; by default runs/METHOD-SPACE-DATA-seedN")
    ] = None
    plugins: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        Field(
            description="modules with methods, spaces or primitives of your own; --plugin X is short for it"
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
        """The settings as a file has them, plain values only; unset ones and ``out``, which is no part of the experiment, are left out."""
        given = json.loads(self.model_dump_json(exclude_none=True, exclude={"out", "methods"}))
        given |= {name: json.loads(json.dumps(section)) for name, section in self.methods.items()}
        return {
            key: value
            for key, value in given.items()
            if value != {} and (key, value) != ("plugins", [])
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True, width=120)


SCALARS = ("method", "seed", "device", "deterministic", "threads", "out", "plugins")


def sections() -> dict[str, type[BaseModel]]:
    """Section -> what may stand in it. A method's are the arguments of its function, a space's those of all spaces."""
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
    """What stands at the top."""
    fields = {name: SearchConfig.model_fields[name] for name in SCALARS}
    whole: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    return create_model("Top", **whole)


def read(*sources: tuple[str, Mapping[str, Any]], recorded: bool = False) -> SearchConfig:
    """One config of several sources, each (its name in error messages, settings as a file has them); later ones win. Imports the plugins that
    they name; of a ``recorded`` run one may be missing, whose methods are then read as they stand.

    ValueError: unknown keys with the nearest known one, wrong types, values out of range, a section of a method that is not used.
    """
    given: Given = {}
    origin: dict[str, str] = {}
    for where, settings in sources:
        with _named(where):
            found = checked(settings, recorded=recorded)
        given = merged(given, found)
        origin |= dict.fromkeys(found, where)
    used, lenient = (
        given.get("method", SearchConfig().method).split("+"),
        recorded and plugins.missing(),
    )
    known = [*catalogue.methods(), *(used if lenient else ())]
    with _named(origin.get("method", "")):
        for name in used:
            if name not in known:
                raise plugins.unknown("method", name, known)
    for name in given:
        if name in known and name not in (
            *used,
            "darts",
        ):  # DARTS's options are the user's own word on any method's step
            with _named(origin[name]):
                both = "+".join(one for one in (*used, name) if one != "darts")
                raise ValueError(
                    f"section {name!r} is of a method that is not used: leave it out, or say method {both}"
                )
    methods = {name: given.pop(name) for name in list(given) if name in known}
    given["space"] = {**SearchConfig().space, **given.get("space", {})}
    return SearchConfig(**given, methods=methods)


def read_yaml(path: Path | str) -> tuple[str, Given]:
    """A file as a source of `read`. ValueError if it is missing, no YAML mapping, or says a name twice."""
    path = Path(path)
    text = files.text(path, yaml_files.LIMIT)
    try:
        found = yaml_files.parsed(text)
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(found or {}, Mapping):
        raise ValueError(
            f"{path}: settings are expected as 'name: value' lines, not {shown(found)}"
        )
    return str(path), dict(found or {})


def checked(given: Mapping[str, Any], *, recorded: bool = False) -> Given:
    """The settings a file or a command line gave, each known and of its type; what is null counts as not said. Their plugins are imported
    first; ``recorded`` as in `read`."""
    spelled, top = _spelled(given), scalars()
    if spelled.get("plugins") is not None:
        spelled |= _values("", top, {"plugins": spelled["plugins"]})
        plugins.load(spelled["plugins"], recorded=recorded)
    parts, lenient = sections(), recorded and plugins.missing()
    found: Given = {}
    for key, value in spelled.items():
        if value is None:
            continue
        if key in parts:
            if key in SHORT and isinstance(value, str | list):
                value = {SHORT[key]: value}
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{key}: a section of settings is expected here, not {shown(value)}"
                )
            if lenient and key == "space" and value.get("name", "") not in catalogue.spaces():
                raise plugins.unknown("space", value.get("name"), catalogue.spaces())
            found[key] = _values(key, parts[key], _spelled(value))
        elif key in top.model_fields:
            found |= _values("", top, {key: value})
        elif lenient and isinstance(value, Mapping):
            found[key] = dict(value)
        else:
            raise unknown("setting", key, [*top.model_fields, *parts])
    return found


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Given:
    """Both, section by section; ``second`` wins."""
    both = {**first, **second}
    shared = [key for key in first if key in second and isinstance(first[key], Mapping)]
    if "plugins" in both:
        both["plugins"] = plugins.joined(first.get("plugins", ()), second.get("plugins", ()))
    return both | {key: {**first[key], **second[key]} for key in shared}


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Errors inside name their source."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def _values(owner: str, kind: type[BaseModel], given: Mapping[str, Any]) -> Given:
    options.check_names(owner, kind, given)
    return options.values(
        owner, kind, {name: value for name, value in given.items() if value is not None}
    )


def _spelled(given: Mapping[Any, Any]) -> Given:
    found: Given = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name in found:
            raise ValueError(
                f"{shown(name)} is said twice, spelled {shown(key)} too: leave out one of them"
            )
        found[name] = value
    return found
