"""The genotype, a discrete architecture, with its text and JSON forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archgrad.arch import notation, published
from archgrad.arch.edges import Groups, Primitives
from archgrad.arch.links import CellGenotype
from archgrad.arch.mixture import Mixture
from archgrad.errors import short_repr


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture: the links that remain in each edge group.

    ``str`` of a genotype is its text in the notation of the literature.

    >>> genotype = Genotype.parse("|nor_conv_3x3~0|")
    >>> genotype.cells[0].links
    (Link(source=0, target=1, primitive='nor_conv_3x3'),)
    """

    cells: tuple[CellGenotype, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.cells, tuple):
            raise ValueError(
                f"the cells of a genotype are a tuple, not {short_repr(self.cells)}: "
                "Genotype.parse reads a text"
            )

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read a genotype from text.

        Args:
            text: JSON, ``Genotype(normal=[...], ...)``, a NAS-Bench-201 string, another notation of
                `archgrad.arch.notation`, or the name of a published architecture.

        Returns:
            The genotype.

        Raises:
            ValueError: The text is no genotype; the message names the place and the reason.
        """
        return cls(notation.parse(text) or published.find(text.strip()))

    @classmethod
    def of(cls, given: Any) -> Genotype:
        """Return a genotype in any of its forms as a `Genotype`.

        Args:
            given: A genotype, its text (see `parse`) or its mapping (see `from_json`).

        Returns:
            The genotype.

        Raises:
            ValueError: The value is none of these, or its content is wrong.
        """
        if isinstance(given, str):
            return cls.parse(given)
        if isinstance(given, Mapping):
            return cls.from_json(given)
        if not isinstance(given, cls):
            raise ValueError(
                f"a genotype, its text or its name is expected, not {short_repr(given)}"
            )
        return given

    def __str__(self) -> str:
        return notation.write(self.cells)

    def __repr__(self) -> str:
        return f"Genotype.parse({str(self)!r})"

    def _repr_svg_(self) -> str:
        """Return the picture for a notebook."""
        from archgrad.arch.picture import cells_svg  # imports matplotlib

        return cells_svg(self)

    def to_json(self) -> dict[str, Any]:
        """Return ``{group: {"links": [[source, target, primitive], ...], "concat": [...]}}``."""
        return notation.to_json(self.cells)

    @classmethod
    def from_json(cls, data: Any) -> Genotype:
        """Return the genotype of a value of `to_json`; raise ValueError for any other value."""
        return cls(notation.from_json(data))

    def check(self, groups: Groups) -> None:
        """Check that the genotype is one of a space.

        Args:
            groups: The edge groups of the space.

        Raises:
            ValueError: It is not; the message names the first difference.
        """
        if {cell.group for cell in self.cells} != set(groups):
            own = [cell.group for cell in self.cells]
            raise ValueError(f"the genotype has the cells {own}, the space has {list(groups)}")
        for cell in self.cells:
            group = groups[cell.group]
            primitives = {(edge.source, edge.target): edge.primitives for edge in group.edges}
            for source, target, primitive in cell.links:
                if (source, target) not in primitives:
                    raise ValueError(f"{cell.group}: the space has no edge {source} -> {target}")
                if primitive not in primitives[source, target]:
                    has = ", ".join(primitives[source, target]) or "nothing"
                    raise ValueError(
                        f"{cell.group}: edge {source} -> {target} has no primitive "
                        f"{primitive!r} in this space (it has {has})"
                    )
            edges = [(link.source, link.target) for link in cell.links]
            for edge in edges:
                if edges.count(edge) > group.pick:
                    raise ValueError(
                        f"{cell.group}: edge {edge[0]} -> {edge[1]} has {edges.count(edge)} ops, "
                        f"the space allows {group.pick}"
                    )
            for node, incoming in group.nodes().items():
                inputs = sum(target == node for _, target in set(edges))
                if group.keep is None and inputs < (
                    every := sum(bool(group.edges[e].primitives) for e in incoming)
                ):
                    raise ValueError(
                        f"{cell.group}: node {node} has {inputs} inputs, "
                        f"the space keeps all its {every} edges"
                    )
                if inputs < group.least or (group.keep is not None and inputs > group.keep):
                    raise ValueError(
                        f"{cell.group}: node {node} has {inputs} inputs, "
                        f"the space allows {group.least} to {group.keep}"
                    )
            nodes = {edge.source for edge in group.edges} | {edge.target for edge in group.edges}
            if not set(cell.concat) <= nodes:
                odd = sorted(set(cell.concat) - nodes)
                raise ValueError(
                    f"{cell.group}: concat names the nodes {odd}, the space has no such node"
                )

    def one_hot(self, groups: Groups) -> Mixture:
        """Return the mixture under which a supernet computes exactly this genotype.

        Args:
            groups: The edge groups of the space.

        Returns:
            The mixture: its links have weight 1 and are active, all other ops have weight 0 and are
            not executed.

        Raises:
            ValueError: The genotype is not one of the space, or it concatenates other nodes than
                the supernet.
        """
        import torch

        self.check(groups)
        weights, active = {}, {}
        for cell in self.cells:
            group = groups[cell.group]
            if cell.concat != group.concat:
                raise ValueError(
                    f"{cell.group}: the genotype concatenates the nodes {cell.concat}, "
                    f"the supernet {group.concat}"
                )
            at = {(edge.source, edge.target): index for index, edge in enumerate(group.edges)}
            chosen = torch.zeros(len(group.edges), group.width, dtype=torch.bool)
            for source, target, primitive in cell.links:
                index = at[source, target]
                chosen[index, group.edges[index].primitives.index(primitive)] = True
            weights[cell.group], active[cell.group] = chosen.float(), chosen
        return Mixture(weights, active)

    def primitives(self, groups: Groups) -> Primitives:
        """Return the primitives of each edge, ``()`` for a removed edge.

        Args:
            groups: The edge groups of the space.

        Returns:
            Group name -> a tuple of primitives for each edge.

        Raises:
            ValueError: The genotype is not one of the space.
        """
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
