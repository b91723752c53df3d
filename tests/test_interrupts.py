"""Requests to stop, at every moment of a process: during imports, while images are read, in a measurement, in a finalisation, after the loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from archgrad import data
from archgrad.cli import main
from archgrad.observers import interrupts
from archgrad.observers.interrupts import UNLESS_IGNORED, exit_code_of, stop_requests
from archgrad.run import front
from running import SMALL, outcome, same

ALL = (signal.SIGINT, signal.SIGTERM, *UNLESS_IGNORED)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["search", *SMALL, "--out", str(folder)]) == 0
    return folder


def ask(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ALL)
def test_a_request_sets_a_flag_and_is_answered_at_once_and_a_second_one_stops(number, capfd):
    before = [signal.getsignal(one) for one in ALL]
    with pytest.raises(KeyboardInterrupt), stop_requests() as stopping:
        assert not stopping()
        ask(number)
        assert (
            stopping()
            and capfd.readouterr().err == "stopping after this step; once more to stop now\n"
        )
        ask(signal.SIGINT)
    assert [signal.getsignal(one) for one in ALL] == before
    with stop_requests() as stopping:  # the next search of this process was not asked
        assert not stopping()


def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    """nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stopping:
            ask(signal.SIGHUP)
            assert not stopping()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_may_search_too():
    found = []

    def work():
        with stop_requests() as stopping:
            found.append(stopping())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def swallowed() -> None:
    """As the machinery of imports may do it."""
    with suppress(KeyboardInterrupt):
        ask()


def test_a_request_that_was_swallowed_is_remembered(capsys):
    def broken():
        swallowed()
        raise AttributeError("half a module")

    def late():
        swallowed()
        with stop_requests():
            pytest.fail("the search ran on")
        return 0

    def done():
        swallowed()
        return 0

    for work in (broken, late, done, ask):
        assert exit_code_of(work) == 130
        assert capsys.readouterr().err == "archgrad: stopped\n"
    assert exit_code_of(lambda: 0) == 0 and exit_code_of(lambda: 2) == 2
    with pytest.raises(AttributeError):
        exit_code_of(lambda: broken_without_request())


def broken_without_request():
    raise AttributeError("a fault of ours")


@pytest.mark.parametrize("moment", ["reading", "front", "after"])
def test_a_request_outside_the_steps_ends_with_130_and_the_run_goes_on(
    whole, tmp_path, monkeypatch, capfd, moment
):
    """While images are read nothing is written; in the front and behind it the search is whole, and ends as one that nobody stopped."""
    folder = tmp_path / "run"
    place, name = {
        "reading": (data, "load"),
        "front": (front, "of_end"),
        "after": (front, "front"),
    }[moment]
    real = getattr(place, name)

    def asked(*given, **named):
        ask()
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, asked)
        assert main(["search", *SMALL, "--out", str(folder)]) == 130
    assert not (folder / "genotype.json").exists()
    if moment == "reading":
        assert not (folder / "config.yaml").exists() and capfd.readouterr().err.endswith(
            "archgrad: stopped\n"
        )
        return
    assert main(["resume", str(folder)]) == 0
    assert same(outcome(folder), outcome(whole))
    assert (folder / "front.json").read_text() == (whole / "front.json").read_text()


def test_a_measurement_is_interrupted_and_the_resumed_run_is_the_undisturbed_one(
    whole, tmp_path, monkeypatch, capfd
):
    """The request comes between two batches of the gap: no row is written, and the resumed run measures again."""
    folder = tmp_path / "run"
    real, count = data.Data.evaluation, [0]

    def asked(self, *given, **named):
        for found in real(self, *given, **named):
            count[0] += 1
            if count[0] == 3:
                ask()
            yield found

    with monkeypatch.context() as patched:
        patched.setattr(data.Data, "evaluation", asked)
        assert (
            main(["search", *SMALL, "--search.checkpoint-seconds", "1e-9", "--out", str(folder)])
            == 130
        )
    said = capfd.readouterr()
    assert (
        "stopping after this step" in said.err
        and "stopped after the steps of epoch 2; all earlier work is saved" in said.out
    )
    assert count[0] == 3 and len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert main(["resume", str(folder)]) == 0
    one, other = outcome(folder), outcome(whole)
    assert same({**one, "config": None}, {**other, "config": None})


CHILD = """
import os, signal, sys
from importlib import abc

class Asks(abc.MetaPathFinder):  # a request to stop in the middle of an import, while some other module would swallow it
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            {how}

module, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Asks())
from archgrad.__main__ import main
sys.exit(main())
"""
RAISED = "os.kill(os.getpid(), signal.SIGTERM)"
SWALLOWED = """
            try: os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt: pass"""


@pytest.mark.parametrize("module, how", [("cyclopts", RAISED), ("torch", SWALLOWED)])
def test_a_request_during_imports_ends_with_130(tmp_path, module, how):
    """Before the command line is there, and inside torch's import, where it is swallowed: the search must not run on."""
    command = [
        sys.executable,
        "-c",
        CHILD.format(how=how),
        module,
        "search",
        *SMALL,
        "--out",
        str(tmp_path / "run"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (130, "archgrad: stopped\n")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_program_is_the_one_that_hears_requests_first():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'archgrad = "archgrad.__main__:main"' in text
    heavy = "import archgrad.observers.interrupts, sys; print([m for m in ('torch', 'cyclopts', 'rich', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout
        == "[]\n"
    )
    assert interrupts.Interrupted.__mro__[1] is Exception
