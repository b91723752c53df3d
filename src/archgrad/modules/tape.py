"""A record of the tensors that a run of a network makes and reads, and the memory that they take.

A storage is live from the operation that makes it to the last operation that reads it. Views share
a storage. Parameters, buffers and other tensors from outside the run do not count, and neither does
a result that nothing reads (indices of a max pool), which is workspace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Branch = tuple[int, tuple[str, ...]]
"""Number of a call of a choice, and the primitives of the alternative that runs in it."""


class Event(NamedTuple):
    """An operation.

    Attributes:
        reads: Storages that it reads.
        makes: Storages that it makes.
        branch: Alternative in which it runs; None outside all choices.
        call: Number of the call that it stands for; None for an operation.
    """

    reads: frozenset[int]
    makes: tuple[int, ...]
    branch: Branch | None = None
    call: int | None = None


class Tape(TorchDispatchMode):
    """Record the operations inside the block.

    Attributes:
        events: The operations in their order.
        sizes: Storage -> bytes, for storages that the run makes or gets as input.
        branch: Alternative in which operations run now.
        records: Whether operations are recorded now.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.sizes: dict[int, int] = {}
        self.branch: Branch | None = None
        self.records = True
        self._known: dict[int, int] = {}
        # An address is not used again while a weak reference to its storage exists.
        self._held: list[Any] = []
        self.add(Event(frozenset(), tuple(self.make(x) for x in storages(inputs))))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.records:
            reads = frozenset(self.number(one) for one in storages((args, kwargs)))
            new = [one for one in storages(out) if one._cdata not in self._known]
            self.add(Event(reads, tuple(self.make(one) for one in new), self.branch))
        return out

    def add(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)

    def number(self, storage: Any) -> int:
        """Return the number of a storage; one that is new comes from outside the run."""
        if storage._cdata not in self._known:
            self._known[storage._cdata] = len(self._held)
            self._held.append(StorageWeakRef(storage))
        return self._known[storage._cdata]

    def make(self, storage: Any) -> int:
        """Return the number of a storage that the run has made."""
        number = self.number(storage)
        self.sizes[number] = storage.nbytes()
        return number

    def copy(self, size: int) -> int:
        """Return the number of a storage that the run is taken to make."""
        self._held.append(None)
        self.sizes[len(self._held) - 1] = size
        return len(self._held) - 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside the block."""
        self.records = False
        try:
            yield
        finally:
            self.records = True


def storages(tree: Any) -> list[Any]:
    """Return the storage of each tensor of a tree, each once."""
    leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
    return list({one._cdata: one for one in (leaf.untyped_storage() for leaf in leaves)}.values())


def returned(tape: Tape, output: Any) -> Event:
    """Return the event that reads the output of a network."""
    return Event(frozenset(tape.number(one) for one in storages(output)), ())


class Peaks(NamedTuple):
    """Peak memory in bytes: of the part outside all choices, and (call, alternative) -> its own."""

    fixed: int
    branches: dict[Branch, int]


def peaks(events: Sequence[Event], sizes: Mapping[int, int]) -> Peaks:
    """Return the peak memory of a run with choices.

    The peak while an alternative runs is the sum of the storages beside it, which outlive the call,
    and of those that it reads or makes.

    Args:
        events: The operations.
        sizes: Storage -> bytes.
    """
    outer = [event for event in events if event.branch is None]
    at = {event.call: index for index, event in enumerate(outer) if event.call is not None}
    inner: dict[Branch, list[Event]] = defaultdict(list)
    for event in events:
        if event.branch is not None:
            inner[event.branch].append(event)
    home = {number: event.branch for event in events for number in event.makes}
    start = {number: index for index, event in enumerate(outer) for number in event.makes}
    last: dict[int, int] = {}
    for event, index in _outer_places(events, at):
        for number in event.reads:
            if number not in sizes or event.branch == home[number] is not None:
                continue
            if (branch := home[number]) is not None:  # read outside the alternative that made it
                start[number] = at[branch[0]]
            last[number] = max(index, last.get(number, 0))
    spans = [(start[number], last[number], sizes[number]) for number in last]
    totals = _live(spans, len(outer))
    found: dict[Branch, int] = {}
    for branch, own in inner.items():
        call = at[branch[0]]
        beside = sum(size for begin, end, size in spans if begin < call < end)
        found[branch] = beside + _own_peak(own, call, sizes, start, last)
    fixed = max(total for total, event in zip(totals, outer) if event.call is None)
    return Peaks(fixed, found)


def _outer_places(events: Iterable[Event], at: Mapping[int, int]) -> Iterator[tuple[Event, int]]:
    """Yield each event with its place among the outer ones: that of its call inside a choice."""
    index = 0
    for event in events:
        if event.branch is not None:
            yield event, at[event.branch[0]]
        else:
            yield event, index
            index += 1


def _own_peak(
    events: Sequence[Event],
    call: int,
    sizes: Mapping[int, int],
    start: Mapping[int, int],
    last: Mapping[int, int],
) -> int:
    """Return the peak of an alternative's own storages, and of the inputs that end with it."""
    begin: dict[int, int] = {}
    end: dict[int, int] = {}
    for index, event in enumerate(events):
        begin |= dict.fromkeys(event.makes, index)
        end |= {number: index for number in event.reads if number in sizes}
    spans = []
    for number in begin.keys() | end.keys():
        if number in begin and number in last:  # it is read outside too
            spans.append((begin[number], len(events) - 1, sizes[number]))
        elif number in begin and number in end:
            spans.append((begin[number], end[number], sizes[number]))
        elif number in end and last[number] == call and start[number] < call:
            spans.append((0, end[number], sizes[number]))
    return max(_live(spans, len(events)))


def _live(spans: Iterable[tuple[int, int, int]], count: int) -> list[int]:
    """Return the bytes that are live at each event.

    Args:
        spans: First event, last event and bytes of each storage.
        count: Number of events.
    """
    changes = [0] * (count + 1)
    for begin, end, size in spans:
        changes[begin] += size
        changes[end + 1] -= size
    return list(accumulate(changes))[:count]
