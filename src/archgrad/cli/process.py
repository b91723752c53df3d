"""Settings of the command line's own process before torch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
COMPILER = "torch._dynamo"


class Later(ModuleType):
    """A stand-in for torch's compiler until the program needs the real one.

    torch imports its compiler at the first step of any optimizer, only to exclude the step from
    compilation. The import takes as long as that of torch itself, and a program that compiles
    nothing does not need it.
    """

    @staticmethod
    def disable(
        fn: Callable[..., Any], recursive: bool = True, *, wrapping: bool = True
    ) -> Callable[..., Any]:
        return fn

    @staticmethod
    def graph_break(msg: str = "") -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # `inspect` reads __file__ of every module
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for work, unless the user has set how they wait.

    By default they spin for a while. If another process is busy, a spinning thread takes the
    processor from the thread that has work. GNU's runtime, which torch's builds for Linux contain,
    reads OMP_WAIT_POLICY. Intel's and LLVM's runtimes also read KMP_BLOCKTIME (milliseconds).
    """
    if not {*ASLEEP, "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(ASLEEP)


def compile_nothing() -> None:
    """Replace torch's compiler by a `Later` in a process that has not imported torch yet."""
    if "torch" not in sys.modules:
        sys.modules[COMPILER] = Later(COMPILER)
