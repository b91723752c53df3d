"""The costs of a search's networks, the limits that its budgets set, and the result beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archgrad import tabular
from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Space
from archgrad.cost.cost import Cost, cost_text
from archgrad.cost.target import limit
from archgrad.errors import unknown_name
from archgrad.retraining.settings import retrain_settings
from archgrad.run.config import SearchConfig
from archgrad.run.sections import BudgetSettings

if TYPE_CHECKING:
    from archgrad import latency
    from archgrad.cost.limits import Limits

IDLE = 0.5
"""A network that costs less than this share of its budget gets a remark."""

MATCH = 1e-4
"""The relative difference up to which two counts of the same cost are taken for equal."""


@dataclass(frozen=True)
class Costs:
    """The costs of the networks that `retrain` would build. Each cost is computed on first use.

    Attributes:
        space: The space of the networks.
        size: The side of the images, in pixels.
        recipe: The settings of the retraining, fields of `RetrainSettings`.
        settings: The budgets, and the source of the latencies.
        latency_file: The file in which a run folder keeps its latency table, if it has one.
    """

    space: Space
    size: int
    recipe: Mapping[str, Any]
    settings: BudgetSettings
    latency_file: Path | None = None

    def available_costs(self) -> dict[str, Callable[[], Cost]]:
        """Return the name of each available cost, with the function that computes it.

        The latencies of a table's devices are those of the table's own networks, whatever the
        images here are.
        """
        table = tabular.latency_table(self.space.name)
        devices = {name: partial(table.cost, name) for name in table.devices()} if table else {}
        return {
            "macs": partial(self._counted_cost, "macs"),
            "params": partial(self._counted_cost, "params"),
            "ram": self._peak_cost,
            "latency": self._measured_cost,
            **devices,
        }

    def cost(self, name: str) -> Cost:
        """Return the cost of this name. A ValueError refuses a name that is not available here."""
        known = self.available_costs()
        if name not in known:
            raise unknown_name("cost in a budget:", name, known)
        return known[name]()

    def limits(self) -> Limits:
        """Return the limits of the budgets. A ValueError says that no network keeps to them."""
        from archgrad.cost.limits import check_feasible

        found = tuple(
            limit(target, self.cost(target.name), self.space.groups)
            for target in self.settings.targets
        )
        check_feasible(self.space.groups, found)
        return found

    @cached_property
    def _counted(self) -> dict[str, Cost]:
        """One pass of the whole supernet takes seconds, so it counts for all budgets at once."""
        from archgrad.cost.counting import costs

        return costs(self.space, self.size, **self.network_options())

    def _counted_cost(self, name: str) -> Cost:
        return self._counted[name]

    def _peak_cost(self) -> Cost:
        from archgrad.modules.ram import peak_ram

        return peak_ram(self.space, self.size, **self.network_options())

    def _measured_cost(self) -> Cost:
        found = self._profile().cost()
        for group in self.space.groups.values():
            for source, target, primitives in group.edges:
                for primitive in primitives:
                    if (source, target, primitive) not in found.ops.get(group.name, {}):
                        raise ValueError(
                            f"the latencies of {self.space.name} have no {primitive!r} of "
                            f"{group.name!r}, so the module has changed: measure them again"
                        )
        return found

    def _profile(self) -> latency.Profile:
        from archgrad import latency

        settings = self.settings
        if self.latency_file and self.latency_file.exists():
            return latency.read_unchecked(self.latency_file)
        wanted = latency.setting(
            self.space,
            self.size,
            batch=settings.latency_batch,
            device=settings.latency_device,
            threads=settings.latency_threads,
            **self.network_options(),
        )
        return latency.read(settings.latency, wanted) if settings.latency else latency.find(wanted)

    def write_latencies(self, path: Path) -> None:
        """Write the latency table to a path, if a budget limits the latency."""
        from archgrad import latency

        if any(target.name == "latency" for target in self.settings.targets):
            latency.write(self._profile(), path)

    def retrainable_space(self) -> Space:
        """Return the space with the width and depth of the recipe.

        Raises:
            ValueError: The recipe has a width or a depth that the space cannot have.
        """
        return self.space.evaluation(**self.network_options())

    def network_options(self) -> dict[str, Any]:
        """Return the width and depth of the recipe, as options of `Space.evaluation`."""
        recipe = retrain_settings(self.space, self.recipe)
        shape = {"channels": recipe.channels, "cells": recipe.cells}
        return {name: value for name, value in shape.items() if value is not None}


def retrainable_costs(
    config: SearchConfig, space: Space, size: int, latencies: Path | None = None
) -> Costs:
    """Return the costs that the budgets of a search may limit.

    Args:
        config: The settings of the search.
        space: Its space.
        size: The side of its images in pixels. ``budget.size`` replaces it.
        latencies: The file in which the run folder keeps its latency table, if there is one.
    """
    return Costs(space, config.budget.size or size, config.retrain, config.budget, latencies)


def range_lines(limits: Limits, groups: Groups) -> list[str]:
    """Return a line for each limit: the bound, and the range of the cost in the space.

    A line reads ``budget macs=3M: networks of this space cost 0.9M to 6.6M``. The ends of a fitted
    cost are values of the fit.
    """
    from archgrad.cost.limits import cheapest, most_expensive

    lines = []
    for one in limits:
        least, most = cheapest(one.cost, groups), most_expensive(one.cost, groups)
        assert least is not None and most is not None  # no limit excludes them
        low, high = one.cost_of(least), one.cost_of(most)
        loose = "; it excludes none" if one.cost.r2 is None and one.bound >= high else ""
        unit = one.cost.unit
        lines.append(
            f"budget {one}: networks of this space cost "
            f"{cost_text(low, unit)} to {cost_text(high, unit)}{loose}"
        )
    return lines


@dataclass(frozen=True)
class BudgetResult:
    """One cost of a found network beside its budget, as ``genotype.json`` has it.

    Attributes:
        cost: The name of the cost.
        unit: Its unit, empty for a count.
        budget: The largest value that was allowed.
        found: The value of the found network.
        wanted: The value of the network that the alphas select without any budget. None if
            something else than the alphas decided.
    """

    cost: str
    unit: str
    budget: float
    found: float
    wanted: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, without ``wanted`` if it is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> BudgetResult:
        """Return the inverse of `to_json`. Further entries are passed over."""
        return cls(
            saved["cost"], saved["unit"], saved["budget"], saved["found"], saved.get("wanted")
        )

    def lines(self) -> list[str]:
        """Return a line such as ``macs: 287.3M of a budget of 300M, 12.7M (4.2 %) to spare``.

        A second line follows if the network costs less than half of the budget.
        """
        spare = cost_text(self.budget - self.found, self.unit)
        percent = 100 * (1 - self.found / self.budget)
        lines = [
            f"{self.cost}: {cost_text(self.found, self.unit)} of a budget of "
            f"{cost_text(self.budget, self.unit)}, {spare} ({percent:.1f} %) to "
            f"spare{self._network_note()}"
        ]
        if self.found < IDLE * self.budget:
            lines.append(
                f"less than half of the budget of {self.cost} is used{self._unlimited_note()}"
            )
        return lines

    def _network_note(self) -> str:
        """Return the network of a device's latency: the table measured its own, not this one."""
        of_a_table = self.unit and self.cost != "latency"
        return " (16 channels and 32x32 images, as in the table)" if of_a_table else ""

    def _unlimited_note(self) -> str:
        if self.wanted is None:
            return ""
        return f": without a budget the alphas select {cost_text(self.wanted, self.unit)}"


def budget_results(
    limits: Limits, genotype: Genotype, free: Genotype | None = None
) -> tuple[BudgetResult, ...]:
    """Return the cost of a genotype beside each budget.

    Args:
        limits: The budgets as bounds.
        genotype: The found network.
        free: The network that the alphas select without any budget, if they decided.
    """
    return tuple(
        BudgetResult(
            one.cost.name,
            one.cost.unit,
            one.bound,
            one.cost.value_of(genotype),
            None if free is None else one.cost.value_of(free),
        )
        for one in limits
    )


def table_budgets(found: Iterable[BudgetResult], known: Mapping[str, Any]) -> dict[str, float]:
    """Return the budgets to which the networks of a benchmark table can be held.

    Args:
        found: The costs of a network beside its budgets.
        known: The row of the table for the same network.

    Returns:
        Name of a cost -> budget, for each cost that the table counts too, with the same value for
        this network.
    """
    return {
        one.cost: one.budget
        for one in found
        if one.cost in ("params", "macs")
        and one.cost in known
        and abs(one.found - known[one.cost]) <= MATCH * known[one.cost]
    }


def result_lines(found: Iterable[BudgetResult]) -> list[str]:
    """Return the lines of all costs (`BudgetResult.lines`)."""
    return [line for one in found for line in one.lines()]
