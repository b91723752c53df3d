"""A discrete architecture, which reads and writes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archgrad.arch import notation, published
from archgrad.arch.edges import Groups, Primitives
from archgrad.arch.links import CellGenotype
from archgrad.arch.mixture import Mixture
from archgrad.errors import shown

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture: for each edge group the links that remain. ``str`` gives the field's own notation where it has one."""

    cells: tuple[CellGenotype, ...]

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """From our JSON, ``Genotype(normal=[...], ...)``, a NAS-Bench-201 string or a known name; ValueError says what is wrong."""
        return cls(notation.parse(text) or published.find(text.strip()))

    @classmethod
    def of(cls, given: Any) -> Genotype:
        """A genotype as it is, or the one that a text (`parse`) or a mapping (`from_json`) says. ValueError for anything else."""
        if isinstance(given, str):
            return cls.parse(given)
        if isinstance(given, Mapping):
            return cls.from_json(given)
        if not isinstance(given, cls):
            raise ValueError(f"a genotype, its text or its name is expected, not {shown(given)}")
        return given

    def __str__(self) -> str:
        return notation.write(self.cells)

    def __repr__(self) -> str:
        return f"Genotype.parse({str(self)!r})"

    def _repr_svg_(self) -> str:
        """The picture that a notebook shows."""
        from archgrad.arch.picture import cells_svg  # takes matplotlib

        return cells_svg(self)

    def to_json(self) -> dict[str, Any]:
        """{group: {"links": [[source, target, primitive], ...], "concat": [...]}}"""
        return notation.to_json(self.cells)

    @classmethod
    def from_json(cls, data: Any) -> Genotype:
        """Inverse of `to_json`. ValueError for anything else."""
        return cls(notation.from_json(data))

    def check(self, groups: Groups) -> None:
        """ValueError if this genotype does not fit ``groups``: the first misfit, by name."""
        if {cell.group for cell in self.cells} != set(groups):
            raise ValueError(
                f"the genotype has the cells {[c.group for c in self.cells]}, the space has {list(groups)}"
            )
        for cell in self.cells:
            group = groups[cell.group]
            primitives = {(edge.source, edge.target): edge.primitives for edge in group.edges}
            for source, target, primitive in cell.links:
                if (source, target) not in primitives:
                    raise ValueError(f"{cell.group}: the space has no edge {source} -> {target}")
                if primitive not in primitives[source, target]:
                    has = ", ".join(primitives[source, target]) or "nothing"
                    raise ValueError(
                        f"{cell.group}: edge {source} -> {target} has no primitive {primitive!r} in this space (it has {has})"
                    )
            edges = [(link.source, link.target) for link in cell.links]
            for edge in edges:
                if edges.count(edge) > group.pick:
                    raise ValueError(
                        f"{cell.group}: edge {edge[0]} -> {edge[1]} carries {edges.count(edge)} ops, the space allows {group.pick}"
                    )
            for node, incoming in group.nodes().items():
                inputs = sum(target == node for _, target in set(edges))
                if group.keep is None and inputs < (
                    every := sum(bool(group.edges[e].primitives) for e in incoming)
                ):
                    raise ValueError(
                        f"{cell.group}: node {node} has {inputs} inputs, the space keeps all its {every} edges"
                    )
                if inputs < group.least or (group.keep is not None and inputs > group.keep):
                    raise ValueError(
                        f"{cell.group}: node {node} has {inputs} inputs, the space allows {group.least} to {group.keep}"
                    )
            nodes = {edge.source for edge in group.edges} | {edge.target for edge in group.edges}
            if not set(cell.concat) <= nodes:
                raise ValueError(
                    f"{cell.group}: concat names the nodes {sorted(set(cell.concat) - nodes)}, the space has no such node"
                )

    def one_hot(self, groups: Groups) -> Mixture:
        """The mixture that runs exactly this genotype: weight 1 and active on its links, 0 and idle elsewhere. ValueError if it does not
        fit, or concatenates other nodes than the supernet does."""
        import torch

        self.check(groups)
        weights, active = {}, {}
        for cell in self.cells:
            group = groups[cell.group]
            if cell.concat != group.concat:
                raise ValueError(
                    f"{cell.group}: the genotype concatenates the nodes {cell.concat}, the supernet {group.concat}"
                )
            at = {(edge.source, edge.target): index for index, edge in enumerate(group.edges)}
            chosen = torch.zeros(len(group.edges), group.width, dtype=torch.bool)
            for source, target, primitive in cell.links:
                index = at[source, target]
                chosen[index, group.edges[index].primitives.index(primitive)] = True
            weights[cell.group], active[cell.group] = chosen.float(), chosen
        return Mixture(weights, active)

    def primitives(self, groups: Groups) -> Primitives:
        """The primitives each edge keeps, ``()`` for a removed edge."""
        self.check(groups)
        return {
            cell.group: tuple(
                tuple(
                    link.primitive
                    for link in cell.links
                    if (link.source, link.target) == (edge.source, edge.target)
                )
                for edge in groups[cell.group].edges
            )
            for cell in self.cells
        }
