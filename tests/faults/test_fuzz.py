"""Whatever a file or a flag says, a command ends with a result or with one line: never with a traceback, never without end."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from archgrad import data, latency, run
from archgrad.arch.genotype import Genotype
from archgrad.cli import main
from archgrad.compare import study, summary
from archgrad.cost import counting as spaces_cost
from archgrad.errors import LONGEST, PATH
from archgrad.latency import profile
from archgrad.observers.interrupts import Interrupted
from archgrad.run import budgets, config, execute
from archgrad.run.folder import RunFolder
from archgrad.storage import files
from faults import fuzzing
from running import SMALL


class Home:
    """The smallest run, network, derived genotype, latency table and study; `restored` renews them after each case."""

    def __init__(self, path: Path) -> None:
        self.path, run_folder = path, str(path / "run")
        small = [
            "--retrain.preset",
            "quick",
            "--retrain.epochs",
            "1",
            "--retrain.channels",
            "2",
            "--retrain.cells",
            "1",
        ]
        small += ["--retrain.limit", "40"]
        said(
            [
                *("search", *SMALL),
                "--budget",
                "params=90%",
                "--budget.rate",
                "0",
                *small,
                "--out",
                run_folder,
            ]
        )
        said(["retrain", run_folder])
        said(["derive", run_folder, "--budget", "params=80%", "--out", str(path / "derived.json")])
        self._latencies()
        self._study(RunFolder(path / "run"))
        for label in range(2):
            (path / "labelled" / str(label)).mkdir(parents=True)
            Image.fromarray(np.full((8, 8), 99 * label, np.uint8)).save(
                path / "labelled" / str(label) / "1.png"
            )
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path / "image.png")
        self.known = {name: (path / name).read_text() for name in fuzzing.FILES}
        self.kept = path.with_name("kept")
        shutil.copytree(path, self.kept)

    def _latencies(self) -> None:
        (self.path / "latency.yaml").write_text((self.path / "run/config.yaml").read_text())
        settings = config.read(config.read_yaml(self.path / "latency.yaml"))
        space = run.space_from(settings)
        wanted = latency.setting(
            space, 8, threads=1, **budgets.retrainable_costs(settings, space, 8).network_options()
        )
        ops = {
            name: {(e.source, e.target, p): 0.1 for e in group.edges for p in e.primitives}
            for name, group in space.groups.items()
        }
        genotype = Genotype.parse(fuzzing.GENOTYPES[3])
        nets = (profile.MeasuredNetwork(genotype, 1.0, 2.0),)
        latency.write(
            profile.Profile(wanted, ops, 1.0, 1.0, 1.0, 0.0, nets, "2026-01-01"),
            self.path / "latency.json",
        )

    def _study(self, folder: RunFolder) -> None:
        settings = folder.read_settings().to_mapping()
        shared = {
            name: value
            for name, value in settings.items()
            if name not in ("seed", "method", "data", "darts", "device")
        }
        whole = study.read(
            (
                "",
                {**shared, "seeds": [1], "controls": False, "arms": {"darts": {"method": "darts"}}},
            )
        )
        (self.path / "study").mkdir()
        (self.path / "study/study.yaml").write_text(whole.to_yaml())
        summary.write(
            self.path / "study/summaries/darts-seed1.json", summary.summarise(folder, "darts", 1)
        )
        said(["compare", "--out", str(self.path / "study"), "--print-commands"])

    def tried(self, case: fuzzing.Case) -> tuple[int, str]:
        """The exit code of a case and its stderr."""
        for name, content in case.files.items():
            (self.path / name).write_bytes(content)
        try:
            return outcome(
                [str(self.path / one[1:]) if one.startswith("@") else one for one in case.arguments]
            )
        finally:
            for name in case.files:
                (self.path / name).unlink(missing_ok=True)
                if (self.kept / name).exists():
                    shutil.copy(self.kept / name, self.path / name)


def said(arguments: list[str]) -> None:
    code, errors = outcome(arguments)
    assert code == 0, errors


def outcome(arguments: list[str]) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    return code, errors.getvalue()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Any:
    """The folder in which the cases run. No search begins there, and no case writes."""
    path = tmp_path_factory.mktemp("fuzz") / "home"
    path.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(path)
        made = Home(path)
        patched.setattr(execute, "_run", never)
        patched.setattr(RunFolder, "lock", lambda folder: contextlib.nullcontext())
        patched.setattr(files, "draft", lambda path: contextlib.nullcontext(io.BytesIO()))
        for place, name in (
            (data, "load"),
            (study.Study, "resolved_settings"),
            (spaces_cost, "costs"),
        ):
            patched.setattr(place, name, remembered(getattr(place, name)))
        yield made


def remembered(work: Any) -> Any:
    """Return ``work`` cached by its arguments, because reading the same files for every case takes a second."""
    known: dict[str, Any] = {}

    def found(*given: Any, report: Any = None, **options: Any) -> Any:
        key = repr((given, options))
        if key not in known:
            known[key] = work(*given, **options, **({"report": report} if report else {}))
        return known[key]

    return found


def never(*arguments: Any) -> Any:
    raise Interrupted("it would begin")


def check(home: Home, case: fuzzing.Case) -> None:
    """A case ends well, or says in one line of at most 300 characters, its paths aside, what is wrong."""
    threads = torch.get_num_threads()
    code, errors = home.tried(case)
    torch.set_num_threads(threads)
    assert code in (0, 1, 2, 130), errors
    if code == 2:
        assert (
            errors.startswith("archgrad: ") and errors.endswith("\n") and errors.count("\n") == 1
        ), errors
        paths = any("/" in one or "@" in one for one in case.arguments)  # which are never cut
        assert len(errors) - len("archgrad: \n") <= LONGEST + PATH * paths, errors


def fuzzed(examples: int) -> Any:
    checks = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
    ]
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=checks,
    )


@fuzzed(500)
@given(drawn=st.data())
def test_no_input_ends_in_a_traceback(home, drawn):
    check(home, drawn.draw(fuzzing.cases(home.known)))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # twenty minutes on an idle core
@fuzzed(20_000)
@given(drawn=st.data())
def test_no_input_of_many_ends_in_a_traceback(home, drawn):
    check(home, drawn.draw(fuzzing.cases(home.known)))
