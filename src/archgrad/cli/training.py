"""The commands for a found network: ``archgrad retrain``, ``evaluate`` and ``predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from archgrad import terminal
from archgrad.bounds import check_device
from archgrad.cli.flags import AsJson, flags, given_flags, part_of
from archgrad.errors import command
from archgrad.observers.interrupts import Interrupted, stop_requests
from archgrad.retraining.card import WEIGHTS, check_free, network_folder, read_card
from archgrad.run import config, preparing_training
from archgrad.run.config import SearchConfig
from archgrad.run.folder import default_out
from archgrad.run.preparing_training import READING
from archgrad.run.sections import LOADING, DataSettings
from archgrad.run.subject import Subject
from archgrad.terminal import say_on

if TYPE_CHECKING:
    from archgrad.terminal import Say

SECTIONS = config.sections()
Flags: Any = flags(
    {
        "data": part_of(DataSettings, *LOADING, *READING),
        "space": part_of(SECTIONS["space"], "name", "nodes"),
        "retrain": SECTIONS["retrain"],
    },
    part_of(
        config.scalars(),
        "seed",
        "device",
        "deterministic",
        "threads",
        "out",
        "plugins",
        about={
            "out": "folder of the retraining; by default RUN/retrain, "
            "or runs/retrain-GENOTYPE-SPACE-DATA-seedN for a genotype"
        },
    ),
    {
        "data": "By default the images are those of the run.",
        "space": "By default the space of a genotype is that of its cells. "
        "A run keeps its own space, so leave this section out.",
        "retrain": "The preset sets the defaults, and the space chooses the preset.",
    },
    floating=("space", "retrain"),
)
NOTHING = Flags()
Device = Annotated[
    str | None,
    Parameter(help="device (auto, cpu, cuda or cuda:1); by default the device of the training"),
]


def retrain(
    what: str,
    *,
    config_file: Annotated[
        Path | None,
        Parameter(
            name="--config",
            help="YAML file with the sections of these options; flags override the file",
        ),
    ] = None,
    given: Annotated[Flags, Parameter(name="*")] = NOTHING,
) -> int:
    """Train the network of a run or of a genotype from scratch.

    The result is the test accuracy after the last epoch. The run folder supplies the images and
    the space, and a genotype needs `--data`.

    Example: `archgrad retrain runs/a --retrain.preset quick`

    Args:
        what: run folder, name of a published architecture, genotype in any notation, or its file
    """
    found, settings = preparing_training.read_subject_and_settings(
        what, [*([config.read_yaml(config_file)] if config_file else []), ("", given_flags(given))]
    )
    out = settings.out or _default_out(found, what, settings)
    check_free(out)
    from archgrad.retraining import execute as retraining  # takes torch

    console = terminal.console(soft_wrap=True)
    say = say_on(console)
    for line in (*(found.run.early_end_lines() if found.run else ()), *found.judgement_lines()):
        say(line)
    made = preparing_training.prepare(found, settings, console)
    try:
        with stop_requests() as stopping:
            retraining.retrain(
                made.space,
                found.genotype,
                made.dataset,
                made.recipe,
                out,
                seed=settings.seed,
                device=made.device,
                deterministic=settings.deterministic,
                origin=made.origin,
                reading=made.reading,
                stopping=stopping,
                seconds=settings.search.checkpoint_seconds,
                report=say,
            )
    except Interrupted as stop:
        say(str(stop))
        return 130
    where = found.folder.path if found.folder and not settings.out else out
    say(f"next: {command('evaluate', where)}")
    return 0


def continue_retraining(
    folder: Path, say: Say, *, repair: bool = False, previous: bool = False
) -> None:
    """Continue the retraining in a folder where it stopped.

    Args:
        folder: The folder of the retraining.
        say: Prints a line.
        repair: Repair damaged files of metrics first.
        previous: Start from the checkpoint before the last one.
    """
    if repair:
        from archgrad.run import repairing  # takes torch

        repairing.repair_retraining(folder, say, previous=previous)
    if (folder / WEIGHTS).exists():
        say(f"the training in {folder} is finished: see `{command('evaluate', folder)}`")
        return
    from archgrad.retraining import execute as retraining

    with stop_requests() as stopping:
        retraining.resume(folder, previous=previous, stopping=stopping, report=say)
    say(f"next: {command('evaluate', folder)}")


def evaluate(
    folder: Path,
    *,
    data: Annotated[
        str | None,
        Parameter(
            help="labelled images in a folder CLASS/*, a parquet or CSV file, or a hub set with a "
            "test split; by default the test images of the run"
        ),
    ] = None,
    split: Annotated[
        str | None,
        Parameter(help="split of the images of --data; by default test, if the set has it"),
    ] = None,
    image_column: Annotated[
        str | None, Parameter(help="name of the table column with the images")
    ] = None,
    label_column: Annotated[
        str | None, Parameter(help="name of the table column with the classes")
    ] = None,
    skip_unreadable: Annotated[
        bool,
        Parameter(
            help="exclusion of labelled images that cannot be read", negative="", show_default=False
        ),
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure the test accuracy of a retrained network: overall, by class, and the confusions.

    On the test images of the run the accuracy equals that of `archgrad retrain` to the last digit.

    Example: `archgrad evaluate runs/a`

    Args:
        folder: run folder, or folder of a retraining
    """
    check_device(device or "auto")
    given = (
        ("image_column", image_column),
        ("label_column", label_column),
        ("skip_unreadable", skip_unreadable or None),
    )
    read_card(network_folder(folder))  # raises an error if there is no retrained network
    from archgrad.devices import device_named  # takes torch
    from archgrad.retraining import evaluating as evaluation

    columns: dict[str, Any] = {name: value for name, value in given if value is not None}
    found = evaluation.evaluate(
        network_folder(folder), data, split=split, device=device and device_named(device), **columns
    )
    if as_json:
        terminal.print_output(json.dumps(found.to_json()))
    else:
        evaluation.show(found, terminal.console())


def predict(
    folder: Path,
    *images: Path,
    top: Annotated[int, Parameter(help="number of most probable classes to print per image")] = 1,
    csv: Annotated[
        bool,
        Parameter(
            help="CSV output with file, class and probability", negative="", show_default=False
        ),
    ] = False,
    csv_raw: Annotated[
        bool,
        Parameter(
            help="CSV output with unescaped file names, which a spreadsheet may run as formulas",
            negative="",
            show_default=False,
        ),
    ] = False,
    as_json: AsJson = False,
    device: Device = None,
) -> int:
    """Predict the class of each image, with its probability.

    If an image cannot be read, its path is printed, the other images are predicted, and the exit
    code is 1.

    Example: `archgrad predict runs/a photo.jpg more/`

    Args:
        folder: run folder, or folder of a retraining
        images: image files and folders of image files
    """
    if not images:
        raise ValueError("which images? add files or folders behind the run folder")
    read_card(network_folder(folder))
    check_device(device or "auto")
    if as_json and (csv or csv_raw):
        raise ValueError("--json and --csv exclude each other: leave out one of them")
    if not any(path.exists() for path in images):
        raise ValueError(f"no such file or folder: {', '.join(map(str, images))}")
    from archgrad.devices import device_named  # takes torch
    from archgrad.retraining import predicting as prediction

    found = prediction.predict(
        network_folder(folder), images, top=top, device=device and device_named(device)
    )
    if as_json:
        terminal.print_output(json.dumps(found.to_json()))
    elif csv or csv_raw:
        terminal.print_output(prediction.to_csv(found, raw=csv_raw), end="")
        for line in found.refused:
            terminal.say(line, error=True)
    else:
        prediction.show(found, terminal.console())
    return 1 if found.refused else 0


def _default_out(found: Subject, what: str, settings: SearchConfig) -> Path:
    """Return RUN/retrain, RUN/retrain-FILE of a file from `archgrad derive`, or a folder in runs/.

    The last is runs/retrain-GENOTYPE-SPACE-DATA-seedN, for a genotype that belongs to no run.
    """
    if found.run:
        return found.run.path / (f"retrain-{found.file.stem}" if found.file else "retrain")
    name = what if len(what) < 40 else "genotype"
    return default_out(settings.model_copy(update={"method": f"retrain-{Path(name).stem}"}))
