"""Work that hundreds of commands in one process repeat with the same result: it is done once.

A command line has 270 flags, whose arguments and validators cyclopts builds anew for each command. A run counts the ops of its space and decodes its images.
Together they take longer than a small search. A process of its own shares nothing, and the tests of the counts call the real function.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pydantic
from cyclopts.argument import Argument, ArgumentCollection


def validators(real: Callable[..., Any]) -> Callable[..., Any]:
    """One validator a type. Types that are equal may print unequal errors (1 and 1.0), so their text counts too."""
    known: dict[Any, Any] = {}

    def adapter(hint: Any, **options: Any) -> Any:
        if options:
            return real(hint, **options)
        try:
            key = (hint, repr(hint))
            hash(key)
        except TypeError:
            return real(hint)
        if key not in known:
            known[key] = real(hint)
        return known[key]

    return adapter


def arguments(real: Callable[..., ArgumentCollection]) -> Callable[..., ArgumentCollection]:
    """A copy without tokens of the arguments that belong to a function."""
    known: dict[Any, list[tuple[Any, ArgumentCollection]]] = {}

    def of_callable(function: Any, *defaults: Any, reserved: Any = (), **options: Any) -> Any:
        given = (defaults, tuple(reserved or ()), options)
        entries = known.setdefault(function, [])
        found = next((found for key, found in entries if key == given), None)
        if found is None:
            found = real(function, *defaults, reserved=given[1], **options)
            entries.append((given, found))
        return unused(found)

    return of_callable


def unused(collection: ArgumentCollection) -> ArgumentCollection:
    """The same arguments, which no command line has filled yet."""
    twins: dict[int, Argument] = {id(one): copy.copy(one) for one in collection}
    for one in twins.values():
        one.tokens = list(one.tokens)
        one.children = ArgumentCollection([twins[id(child)] for child in one.children])
    return ArgumentCollection(list(twins.values()))


def counts(real: Callable[..., Any]) -> Callable[..., Any]:
    """The costs of a space, which follow from its specification."""
    known: dict[str, Any] = {}

    def costs(space: Any, size: Any, **options: Any) -> Any:
        if hasattr(space, "costs"):  # a user's own
            return real(space, size, **options)
        key = json.dumps([space.spec(), size, options], default=repr)
        if key not in known:
            known[key] = real(space, size, **options)
        return known[key]

    return costs


def images(real: Callable[..., Any]) -> Callable[..., Any]:
    """What is decoded of the digits, which no cache on the disk keeps."""
    known: dict[Any, Any] = {}

    def of_source(source: Any, *sizes: Any) -> Any:
        *sizes, cache, report = sizes
        if source.name != "digits" or source.key is not None:
            return real(source, *sizes, cache, report)
        key = (*sizes, len(source), source.open(0).read())
        if key not in known:
            known[key] = real(source, *sizes, cache, report)
        return known[key]

    return of_source


@contextmanager
def shared_flags() -> Iterator[None]:
    """Inside, the commands of this process share their flags. It takes no torch."""
    with (
        patch.object(pydantic, "TypeAdapter", validators(pydantic.TypeAdapter)),
        patch.object(
            ArgumentCollection, "_from_callable", arguments(ArgumentCollection._from_callable)
        ),
    ):
        yield


@contextmanager
def shared() -> Iterator[None]:
    """Inside, the commands of this process share their flags, the counts of the spaces and the digits."""
    from archgrad.cost import counting
    from archgrad.data import reading

    with (
        shared_flags(),
        patch.object(counting, "costs", counts(counting.costs)),
        patch.object(reading, "pixels", images(reading.pixels)),
        patch.object(reading, "read_facts", images(reading.read_facts)),
    ):
        yield
