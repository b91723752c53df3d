"""What the command line sets in its own process before torch is imported."""

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
    """Stands for torch's compiler until something asks for more of it than an uncompiled program does.

    torch imports its compiler at the first step of any optimizer, to tell it "not here". That takes as long as torch itself, and a program
    that compiles nothing has nobody to tell.
    """

    @staticmethod
    def disable(
        fn: Callable[..., Any], recursive: bool = True, *, wrapping: bool = True
    ) -> Callable[..., Any]:
        return fn

    @staticmethod
    def graph_break(msg: str = "") -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # `inspect` asks every module for its file
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


def wait_asleep() -> None:
    """OpenMP's threads sleep while they wait for work, unless the user has said how they wait.

    By default they spin for a while. Beside another busy process a spinning thread has the processor that the thread with the work needs.
    GNU's runtime, which torch's builds for Linux bring, reads OMP_WAIT_POLICY; Intel's and LLVM's read KMP_BLOCKTIME (milliseconds) too.
    """
    if not {*ASLEEP, "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(ASLEEP)


def compile_nothing() -> None:
    """Leaves torch's compiler out of a process that has not imported torch yet."""
    if "torch" not in sys.modules:
        sys.modules[COMPILER] = Later(COMPILER)
