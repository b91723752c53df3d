"""Requests to stop: Ctrl-C and the signals that ask for the same. Imports nothing heavy: it must stand before anything else is imported.

Where nothing can be lost (imports, reading images, after the loop) a request raises KeyboardInterrupt at once. Python may swallow that inside
an import, so it is remembered too, and `check` raises it again. Inside `stop_requests` a request only sets a flag; a second one raises.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ALWAYS = (signal.SIGINT, signal.SIGTERM)
UNLESS_IGNORED = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""These do what SIGTERM does, unless they were ignored when the process began: by nohup, or by who started it."""

AFTER_STEP = "stopping after this step; once more to stop now"

_asked: list[int] = []  # signals are a process's, and so is this


class Interrupted(Exception):
    """The user asked to stop; everything is saved. ``str`` says how to go on."""


def check() -> None:
    """KeyboardInterrupt if a request to stop was made: for places behind an import or a call that may have swallowed it."""
    if _asked:
        raise KeyboardInterrupt


def obeyed(work: Callable[[], int]) -> int:
    """The exit code of ``work``; 130 where a request to stop ended it, also if that was swallowed on its way and something else broke."""
    with _handled(_raise):
        try:
            code = work()
            if not code:
                check()
            return code
        except KeyboardInterrupt:
            pass
        except Exception:  # a module that a request cut short is half a module
            if not _asked:
                raise
        with suppress(OSError):  # a terminal that is gone, after SIGHUP
            print("archgrad: stopped", file=sys.stderr)
        return 130


@contextmanager
def stop_requests(words: str = AFTER_STEP) -> Iterator[Callable[[], bool]]:
    """The first request inside only sets the flag that is yielded, and is answered with ``words``; a second one raises KeyboardInterrupt."""
    check()

    def ask(number: int, frame: FrameType | None) -> None:
        _asked.append(number)
        if len(_asked) > 1:
            raise KeyboardInterrupt
        _answer(words)

    with _handled(ask):
        yield lambda: bool(_asked)


def _raise(number: int, frame: FrameType | None) -> None:
    _asked.append(number)
    raise KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Requests go to ``handler`` inside; whoever is the outermost forgets them at the end. Other threads than the main one get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ALWAYS, *UNLESS_IGNORED)}
    outermost = not any(getattr(one, "__module__", None) == __name__ for one in before.values())
    caught = {
        number: old
        for number, old in before.items()
        if number in ALWAYS or old is not signal.SIG_IGN
    }
    try:
        for number in caught:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in caught.items():
            signal.signal(number, old)
        if outermost:
            _asked.clear()


def _answer(words: str) -> None:
    """On stderr, past its buffer: the main program may be writing to it at this moment."""
    with suppress(OSError):
        os.write(2, f"{chr(10) * os.isatty(2)}{words}\n".encode())
