"""Budgets as users say them, ``macs=300M``, and where the costs they speak of come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad import tabular
from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space
from archgrad.cost.cost import Cost, written
from archgrad.errors import unknown
from archgrad.retraining.settings import retrain_settings
from archgrad.run.config import SearchConfig
from archgrad.run.sections import BudgetSettings

if TYPE_CHECKING:
    from archgrad import latency
    from archgrad.cost.limits import Limit, Limits

UNITS = {"": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}, "ms": {"ms": 1.0, "us": 1e-3, "s": 1e3}}
"""Unit of a cost -> what may stand behind a number, and what it is worth. Behind any, % is a share of the largest network's."""


IDLE = 0.5
"""A network below this share of its budget leaves most of it idle, which is said."""


class Target(NamedTuple):
    """A budget as it was said: ``macs``, 300, ``M``."""

    name: str
    number: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name}={self.number:g}{self.unit}"


def target(text: str) -> Target:
    """``macs=300M`` -> a target. ValueError for what is no number, or none above 0."""
    found = re.fullmatch(r"\s*([\w.-]+)\s*=\s*([-+]?[\d_.]+(?:e[-+]?\d+)?)\s*([A-Za-z%]*)\s*", text)
    if not found:
        raise ValueError(
            f"budget {text!r}: say NAME=NUMBER and a unit, such as macs=300M, params=60% or latency=15ms"
        )
    name, number, unit = found.groups()
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"budget {text!r}: {number!r} is no number") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"budget {text!r}: a network costs more than 0, so must its budget be")
    return Target(name, value, unit)


def targets(settings: BudgetSettings) -> tuple[Target, ...]:
    """All of them. ValueError where one is said twice."""
    found = tuple(target(text) for text in settings.targets)
    for one in found:
        same = [other for other in found if other.name == one.name]
        if len(same) > 1:
            raise ValueError(
                f"budget: {one.name} has {len(same)} budgets, {' and '.join(map(str, same))}: say one"
            )
    return found


def limit(said: Target, cost: Cost, groups: Groups) -> Limit:
    """ValueError for a unit that the cost does not have, or a share above the whole."""
    from archgrad.cost.limits import Limit, dearest

    if said.unit == "%":
        if said.number > 100:
            raise ValueError(f"budget {said}: more than the largest network, which is 100%")
        largest = dearest(cost, groups)
        assert largest is not None  # nothing limits it
        return Limit(cost, said.number / 100 * cost.added(largest))
    if said.unit not in UNITS[cost.unit]:
        units = [*filter(None, UNITS[cost.unit]), "%"]
        raise (
            unknown(f"unit in budget {said}:", said.unit, units)
            if said.unit
            else ValueError(f"budget {said}: of what? ({', '.join(units)})")
        )
    return Limit(cost, said.number * UNITS[cost.unit][said.unit])


@dataclass(frozen=True)
class Costs:
    """The costs of a space's derived networks for images of ``size`` pixels, as `retrain` would build them; each made when it is asked for."""

    space: Space
    size: int
    recipe: Mapping[str, Any]  # fields of RetrainSettings
    settings: BudgetSettings
    recorded: Path | None = None  # the table of a run's own folder, once it has begun

    def known(self) -> dict[str, Callable[[], Cost]]:
        """Name -> what makes it. Those of a table's devices are of the table's networks, whatever the images."""
        counted = {name: partial(self._of_counted, name) for name in ("macs", "params")}
        table = tabular.latencies(self.space.name)
        return {
            **counted,
            "latency": self._measured,
            **({name: partial(table.cost, name) for name in table.devices()} if table else {}),
        }

    def cost(self, name: str) -> Cost:
        """ValueError for one that is not known here."""
        known = self.known()
        if name not in known:
            raise unknown("cost in a budget:", name, known)
        return known[name]()

    def limits(self) -> Limits:
        """Those of the settings. ValueError where they cannot be met."""
        from archgrad.cost.limits import check

        found = tuple(
            limit(said, self.cost(said.name), self.space.groups) for said in targets(self.settings)
        )
        check(self.space.groups, found)
        return found

    @cached_property
    def _counted(self) -> dict[str, Cost]:
        """One pass of the whole supernet, which takes seconds, for however many budgets."""
        from archgrad.cost.counting import costs

        return costs(self.space, self.size, **self.built())

    def _of_counted(self, name: str) -> Cost:
        return self._counted[name]

    def _measured(self) -> Cost:
        return self._profile().cost()

    def _profile(self) -> latency.Profile:
        from archgrad import latency

        s = self.settings
        if self.recorded and self.recorded.exists():
            return latency.recorded(self.recorded)
        built = {
            "batch": s.latency_batch,
            "device": s.latency_device,
            "threads": s.latency_threads,
            **self.built(),
        }
        wanted = latency.setting(self.space, self.size, **built)
        return latency.read(s.latency, wanted) if s.latency else latency.find(wanted)

    def record(self, path: Path) -> None:
        """Writes the table of latencies there, if a budget is set by it."""
        from archgrad import latency

        if any(said.name == "latency" for said in targets(self.settings)):
            latency.write(self._profile(), path)

    def networks(self) -> Space:
        """The space as its networks are built. ValueError for what the recipe cannot build."""
        return self.space.evaluation(**self.built())

    def built(self) -> dict[str, Any]:
        """Options of `Space.evaluation`: the width and depth of the recipe."""
        usual = retrain_settings(self.space, self.recipe)
        return {
            name: value
            for name, value in (("channels", usual.channels), ("cells", usual.cells))
            if value is not None
        }


def costs_of(config: SearchConfig, space: Space, size: int, latencies: Path | None = None) -> Costs:
    """The costs that a search with these settings, on images of ``size`` pixels, may be limited by; ``latencies`` is where its folder has its
    own table, if it has one."""
    return Costs(space, config.budget.size or size, config.retrain, config.budget, latencies)


def ranges(limits: Limits, groups: Groups) -> list[str]:
    """``budget macs=3M: networks here have 0.9M to 6.6M``, for each limit; of a cost that is fitted, its ends are as the fit has them."""
    from archgrad.cost.limits import cheapest, dearest

    found = []
    for one in limits:
        least, most = (end(one.cost, groups) for end in (cheapest, dearest))
        assert least is not None and most is not None  # nothing limits them
        low, high = (one.of(end) for end in (least, most))
        far = ", so it excludes none" if one.cost.r2 is None and one.bound >= high else ""
        found.append(
            f"budget {one}: networks here have {written(low, one.cost.unit)} to {written(high, one.cost.unit)}{far}"
        )
    return found


def kept(limits: Limits, genotype: Genotype, free: Genotype | None = None) -> list[dict[str, Any]]:
    """What a genotype costs beside each budget, JSON-able: as it stands in a run's genotype.json. ``free``: what its alphas say without any
    budget, whose cost is ``wanted``."""

    def wanted(one: Limit) -> dict[str, float]:
        return {} if free is None else {"wanted": one.cost.of(free)}

    return [
        {
            "cost": one.cost.name,
            "unit": one.cost.unit,
            "budget": one.bound,
            "found": one.cost.of(genotype),
            **wanted(one),
        }
        for one in limits
    ]


def bounds(found: Iterable[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, float]:
    """The budgets of `kept` that a table's networks can be held to: those whose cost it has (``known``, its `query`), and has alike."""
    counted = (one for one in found if one["cost"] in ("params", "macs") and one["cost"] in known)
    return {
        one["cost"]: one["budget"]
        for one in counted
        if abs(one["found"] - known[one["cost"]]) <= 1e-4 * known[one["cost"]]
    }


def _where(one: Mapping[str, Any]) -> str:
    """A device's numbers are of the table's own networks, whatever the width, depth and images of what is retrained."""
    return (
        " (16 channels, 32x32 images, as the table has it)"
        if one["unit"] and one["cost"] != "latency"
        else ""
    )


def sentences(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """``macs: 287.3M of a budget of 300M, 12.7M (4.2 %) to spare``, for each of `kept`; and a line more where most of a budget is idle."""
    lines = []
    for one in found:
        budget, has, unit = one["budget"], one["found"], one["unit"]
        spare = f"{written(budget - has, unit)} ({100 * (1 - has / budget):.1f} %) to spare"
        lines.append(
            f"{one['cost']}: {written(has, unit)} of a budget of {written(budget, unit)}, {spare}{_where(one)}"
        )
        if has < IDLE * budget:
            asks = (
                f": without any budget the alphas ask for {written(one['wanted'], unit)}"
                if "wanted" in one
                else ""
            )
            lines.append(f"more than half of this budget of {one['cost']} is idle{asks}")
    return lines
