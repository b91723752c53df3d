"""Requests to stop: Ctrl-C, and the signals that mean the same.

This module imports nothing heavy, because it must be active before anything else is imported.

Where nothing can be lost (in imports, while images are read, after the loop) a request raises
KeyboardInterrupt at once. Python may swallow that exception inside an import, so the request is
remembered, and `check_requests` raises it again. Inside `stop_requests` a request only sets a
flag, and a second request raises.
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
"""Signals that do the same as SIGTERM, unless they were ignored when the process began.

nohup ignores SIGHUP, and so may the program that started this process.
"""

AFTER_STEP = "stopping after this step; once more to stop now"

_requests: list[int] = []  # global, because a signal belongs to the whole process


class Interrupted(Exception):
    """Report that the user asked to stop and that everything is saved.

    The message tells how to go on.
    """


def check_requests() -> None:
    """Raise KeyboardInterrupt if the user asked to stop.

    Call it after an import, or after a call that may have swallowed the exception.
    """
    if _requests:
        raise KeyboardInterrupt


def exit_code_of(work: Callable[[], int]) -> int:
    """Return the exit code of ``work``, or 130 if a request to stop ended it.

    It is 130 also if the request was swallowed and another exception followed.
    """
    with _handled(_raise):
        try:
            code = work()
            if not code:
                check_requests()
            return code
        except KeyboardInterrupt:
            pass
        except Exception:  # an interrupted import leaves half a module, which raises any error
            if not _requests:
                raise
        with suppress(OSError):  # the terminal is gone after SIGHUP
            print("archgrad: stopped", file=sys.stderr)
        return 130


@contextmanager
def stop_requests(words: str = AFTER_STEP) -> Iterator[Callable[[], bool]]:
    """Delay a request to stop: the first one only sets a flag and prints ``words``.

    A second request raises KeyboardInterrupt.

    Yields:
        A function that returns whether the user asked to stop.
    """
    check_requests()

    def ask(number: int, frame: FrameType | None) -> None:
        _requests.append(number)
        if len(_requests) > 1:
            raise KeyboardInterrupt
        _answer(words)

    with _handled(ask):
        yield lambda: bool(_requests)


def _raise(number: int, frame: FrameType | None) -> None:
    _requests.append(number)
    raise KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send requests to ``handler`` inside; the outermost context forgets them at the end.

    Only the main thread gets signals, so nothing happens in another thread.
    """
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
            _requests.clear()


def _answer(words: str) -> None:
    """Print on stderr without its buffer, because the main program may be writing to it now."""
    with suppress(OSError):
        begin = "\n" if os.isatty(2) else ""
        os.write(2, f"{begin}{words}\n".encode())
