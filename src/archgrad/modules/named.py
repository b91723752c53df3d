"""The search space of a module that the user names by its place, such as ``mypackage.nets:Net``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from torch import nn

from archgrad.errors import one_line, short_repr, unknown_name
from archgrad.modules.blueprint import blueprint
from archgrad.modules.space import HELP, ModuleSpace
from archgrad.plugins import place_of
from archgrad.spaces import Entry
from archgrad.spaces.options import PrimitiveSets

CLASSES, CHANNELS = 10, 3
"""The options before a search has read its images, as in the other spaces."""


def entry_of(name: str, module: ModuleType) -> Entry:
    """Return the line of `archgrad.spaces.SPACES` for a class or function of a module.

    Args:
        name: Name of the space, ``module:Name``.
        module: The module.

    Returns:
        The line. Its space knows its edge groups; it knows shapes and costs from the option
        ``size`` on.

    Raises:
        ValueError: The module has no such class or function, or it makes no module with choices.
    """
    factory = _naming(name, _found(name, module))
    plan = blueprint(factory, None, {"classes": CLASSES, "in_channels": CHANNELS})
    base = ModuleSpace(name, factory, plan, classes=CLASSES, in_channels=CHANNELS)

    def build(
        *,
        primitives: PrimitiveSets = None,
        classes: int = CLASSES,
        in_channels: int = CHANNELS,
        size: int = 0,
        discrete: bool = False,
    ) -> ModuleSpace:
        given = {"classes": classes, "in_channels": in_channels, "size": size}
        return base.resized(primitives=primitives, discrete=discrete, **given)

    build.option_help = HELP  # type: ignore[attr-defined]
    return Entry(build, "a module of your own")


def _found(name: str, module: ModuleType) -> Callable[..., Any]:
    found: Any = module
    for part in name.partition(":")[2].split("."):
        if not hasattr(found, part):
            known = [one for one, value in vars(module).items() if callable(value)]
            if not known:
                raise ValueError(f"module {module.__name__} has no class and no function")
            raise unknown_name(f"class or function of module {module.__name__}:", part, known)
        found = getattr(found, part)
    if isinstance(found, nn.Module) or not callable(found):
        raise ValueError(
            "a class or function that makes a module is expected, so that its weights can be "
            f"drawn anew, not {short_repr(found)}"
        )
    return found  # type: ignore[no-any-return]


def _naming(name: str, factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory whose errors are one line with the place in the user's code."""

    @wraps(factory, updated=())
    def make(**given: Any) -> Any:
        try:
            return factory(**given)
        except Exception as error:
            trace = error.__traceback__
            place = f", {place_of(error)}" if trace and trace.tb_next else ""  # else: the call here
            raise ValueError(
                f"{name} cannot be made ({type(error).__name__}: {one_line(error)}{place})"
            ) from error

    return make
