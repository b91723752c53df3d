"""The values everything else speaks in: edges and their groups, mixtures, genotypes, and where in a run we are.

Shape letters: ``edges`` and ``ops`` are those of one group, ``cells`` the cells that share it; B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from archgrad.errors import shown
from archgrad.seeds import generator

if TYPE_CHECKING:  # torch is imported by what computes: a genotype is read and looked up without it
    import torch
    from torch import Tensor

    from archgrad.limits import Limits

Alphas = dict[str, "Tensor"]
"""Group name -> (edges, ops) logits, float32; further logits under ``group/name``. Padding (edges with fewer ops) is 0."""


class Edge(NamedTuple):
    """One place where a choice is made. ``primitives`` may differ from edge to edge (S1); ``()`` is a removed edge."""

    source: int
    target: int
    primitives: tuple[str, ...]


@dataclass(frozen=True)
class EdgeGroup:
    """Edges that are decided together and shared by ``cells`` cells: a cell type, or one layer of a chain."""

    name: str
    edges: tuple[Edge, ...]
    concat: tuple[int, ...] = ()  # nodes whose concatenation the cell returns
    keep: int | None = None  # edges kept per node (DARTS: 2); None keeps all
    least: int = 0  # fewest inputs a node of a genotype may have
    pick: int = 1  # ops kept per edge
    hidden: tuple[str, ...] = ("none",)  # in the mixture, never selected
    free: tuple[str, ...] = ()  # primitives without weights
    extras: tuple[str, ...] = ()  # unsearched columns behind the searched ones (DARTS-'s auxiliary skip)
    cells: int = 1

    @property
    def width(self) -> int:
        """Columns of this group's alphas: the most primitives any edge has."""
        return max((len(edge.primitives) for edge in self.edges), default=0)

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Bool (edges, ops): True where an edge has that column; the rest is padding."""
        import torch

        columns = torch.arange(self.width, device=device)
        sizes = torch.tensor([len(edge.primitives) for edge in self.edges], device=device)
        return columns < sizes[:, None]

    def columns(self, primitives: Iterable[str]) -> Tensor:
        """Bool (edges, ops): True where a column is one of ``primitives``."""
        import torch

        wanted = set(primitives)
        rows = [[k < len(edge.primitives) and edge.primitives[k] in wanted for k in range(self.width)] for edge in self.edges]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(self.edges), self.width)

    def nodes(self) -> dict[int, list[int]]:
        """Target node -> indices of the edges that lead to it, both in order."""
        incoming: dict[int, list[int]] = {}
        for index, edge in enumerate(self.edges):
            incoming.setdefault(edge.target, []).append(index)
        return incoming


Groups = dict[str, EdgeGroup]
Primitives = dict[str, tuple[tuple[str, ...], ...]]
"""Group name -> the primitives of each of its edges: what ``Space.resized(primitives=...)`` takes."""


class CellMixture(NamedTuple):
    """What one cell reads of a mixture: weights (edges, ops); active, nested lists of bool or None; the others as there."""

    weights: Tensor
    active: list[list[bool]] | None
    idle: bool
    dropout: Mapping[str, float]
    recompute: bool = False


@dataclass(frozen=True)
class Mixture:
    """How much of each op runs. An argument of the supernet's forward, never stored on a module."""

    weights: dict[str, Tensor]  # group -> (edges, ops), or (cells, edges, ops) where cells differ
    active: dict[str, Tensor] | None = None  # bool, same shapes, always on the host: only these ops are executed
    idle: bool = True  # what is not executed sends its weight the gradient of a scalar in its place (GDAS)
    dropout: Mapping[str, float] = field(default_factory=dict)  # primitive -> probability, of its elements (P-DARTS)
    drop_path: float = 0.0  # probability of whole ops, identities apart (RobustDARTS)
    recompute: bool = False  # while training, activations of a cell are dropped and made again in its backward: less memory, more time
    extras: Mapping[str, Tensor] = field(default_factory=dict)  # group -> (edges, extras); else `EdgeGroup.extras` rest, and where nothing runs

    def __repr__(self) -> str:
        return f"<Mixture of {', '.join(f'{name} {tuple(own.shape)}' for name, own in self.weights.items())}>"

    def cell(self, group: str, k: int | None) -> CellMixture:
        """Cell ``k`` (counted within its group) reads this; ``None`` is the mean over cells, which selection reads: of searched columns."""
        weights = self.weights[group]
        if weights.dim() == 3:
            weights = weights.mean(0) if k is None else weights[k]
        active = None
        if self.active is not None:
            host = self.active[group]
            if host.dim() == 3:
                host = host.any(0) if k is None else host[k]
            active = host.tolist()
        if k is not None and group in self.extras:
            import torch

            extras = self.extras[group]
            weights = torch.cat([weights, extras.to(weights)], 1)
            active = active and [row + [any(row)] * extras.shape[1] for row in active]
        return CellMixture(weights, active, self.idle, self.dropout, self.recompute)

    def detach(self) -> Mixture:
        return self.map(lambda weights: weights.detach())

    def whole(self) -> Mixture:
        """Without dropout: what is looked at, not trained."""
        return replace(self, dropout={}, drop_path=0.0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Mixture:
        """The same mixture with ``change`` applied to every group's weights."""
        return replace(self, weights={name: change(weights) for name, weights in self.weights.items()})


class Link(NamedTuple):
    """One op of a derived cell: node ``target`` adds ``primitive`` of node ``source``."""

    source: int
    target: int
    primitive: str


class CellGenotype(NamedTuple):
    """What was selected for one group. Any number of links per node; ``concat`` as in `EdgeGroup`."""

    group: str
    links: tuple[Link, ...]
    concat: tuple[int, ...]


@dataclass(frozen=True)
class Genotype:
    """A discrete architecture: for each edge group the links that remain. ``str`` gives the field's own notation where it has one."""

    cells: tuple[CellGenotype, ...]

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """From our JSON, ``Genotype(normal=[...], ...)``, a NAS-Bench-201 string or a known name; ValueError says what is wrong."""
        from archgrad.notation import parse

        return parse(text)

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
        from archgrad.notation import write

        return write(self)

    def __repr__(self) -> str:
        return f"Genotype.parse({str(self)!r})"

    def _repr_svg_(self) -> str:
        """The picture that a notebook shows."""
        from archgrad.report import cells_svg

        return cells_svg(self)

    def to_json(self) -> dict[str, Any]:
        """{group: {"links": [[source, target, primitive], ...], "concat": [...]}}"""
        return {cell.group: {"links": [list(link) for link in cell.links], "concat": list(cell.concat)} for cell in self.cells}

    @classmethod
    def from_json(cls, data: Any) -> Genotype:
        """Inverse of `to_json`. ValueError for anything else."""
        from archgrad.notation import from_json

        return from_json(data)

    def check(self, groups: Groups) -> None:
        """ValueError if this genotype does not fit ``groups``: the first misfit, by name."""
        if {cell.group for cell in self.cells} != set(groups):
            raise ValueError(f"the genotype has the cells {[c.group for c in self.cells]}, the space has {list(groups)}")
        for cell in self.cells:
            group = groups[cell.group]
            primitives = {(edge.source, edge.target): edge.primitives for edge in group.edges}
            for source, target, primitive in cell.links:
                if (source, target) not in primitives:
                    raise ValueError(f"{cell.group}: the space has no edge {source} -> {target}")
                if primitive not in primitives[source, target]:
                    has = ", ".join(primitives[source, target]) or "nothing"
                    raise ValueError(f"{cell.group}: edge {source} -> {target} has no primitive {primitive!r} in this space (it has {has})")
            edges = [(link.source, link.target) for link in cell.links]
            for edge in edges:
                if edges.count(edge) > group.pick:
                    raise ValueError(f"{cell.group}: edge {edge[0]} -> {edge[1]} carries {edges.count(edge)} ops, the space allows {group.pick}")
            for node, incoming in group.nodes().items():
                inputs = sum(target == node for _, target in set(edges))
                if group.keep is None and inputs < (every := sum(bool(group.edges[e].primitives) for e in incoming)):
                    raise ValueError(f"{cell.group}: node {node} has {inputs} inputs, the space keeps all its {every} edges")
                if inputs < group.least or (group.keep is not None and inputs > group.keep):
                    raise ValueError(f"{cell.group}: node {node} has {inputs} inputs, the space allows {group.least} to {group.keep}")
            nodes = {edge.source for edge in group.edges} | {edge.target for edge in group.edges}
            if not set(cell.concat) <= nodes:
                raise ValueError(f"{cell.group}: concat names the nodes {sorted(set(cell.concat) - nodes)}, the space has no such node")

    def one_hot(self, groups: Groups) -> Mixture:
        """The mixture that runs exactly this genotype: weight 1 and active on its links, 0 and idle elsewhere. ValueError if it does not
        fit, or concatenates other nodes than the supernet does."""
        import torch

        self.check(groups)
        weights, active = {}, {}
        for cell in self.cells:
            group = groups[cell.group]
            if cell.concat != group.concat:
                raise ValueError(f"{cell.group}: the genotype concatenates the nodes {cell.concat}, the supernet {group.concat}")
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
                tuple(link.primitive for link in cell.links if (link.source, link.target) == (edge.source, edge.target))
                for edge in groups[cell.group].edges
            )
            for cell in self.cells
        }


class Progress(NamedTuple):
    """Where in the run a step is. ``born`` and ``dies`` are the epochs between which this supernet lives (a stage starts a new one, as a rule).

    In a finalisation that steps on (DARTS-PT) schedules stay in the last epoch, and ``past`` counts the further ones."""

    epoch: int
    step: int
    epochs: int
    steps: int  # of this epoch
    born: int
    dies: int
    past: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and step, each pair once in a run, a finalisation included: what draws depend on."""
        return self.epoch + self.past, self.step

    @property
    def fraction(self) -> float:
        """Share of the whole run that is over, in [0, 1)."""
        return (self.epoch + self.step / self.steps) / self.epochs

    @property
    def age(self) -> float:
        """Epochs this supernet has lived, fractions of an epoch included."""
        return self.epoch - self.born + self.step / self.steps

    @property
    def life(self) -> int:
        """Epochs this supernet lives in all."""
        return self.dies - self.born


class Context(NamedTuple):
    """All a piece may know besides its tensors: the groups, the place in the run, the phase, what is remembered, the seed."""

    groups: Groups
    t: Progress
    phase: str  # "weight" | "alpha" | "readout"
    memory: dict[str, Any]
    seed: int
    init: float = 1e-3  # scale of the alphas' initialisation
    limits: Limits = ()  # what an architecture may cost

    def rng(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for this phase, epoch and step; ``purpose`` names the place of the draw, as in ``"gumbel/normal"``."""
        return generator(self.seed, purpose, self.phase, *self.t.place, device=device)


class Batch(NamedTuple):
    """images (B, C, H, W) float, labels (B,) int64, index (B,) int64: each sample's place in its split."""

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # tuple has a method of this name, which a batch does not need


class Output(NamedTuple):
    """logits (B, K); features, one (B, C, H, W) per stage; auxiliary logits (B, K) where the network has that head and is training."""

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    auxiliary: Tensor | None = None

    @property
    def exact(self) -> Tensor:
        """The logits in float32 at least, for losses."""
        import torch

        return self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))


Loss = Callable[[Output, Batch], "Tensor"]
"""(output, batch) -> scalar, a mean over the images."""


class Forward(NamedTuple):
    """One pass and all that led to it: what a loss term reads."""

    alphas: Alphas
    mixture: Mixture
    output: Output
    batch: Batch
    supernet: torch.nn.Module
    context: Context
    again: Callable[[Alphas, Mapping[str, Tensor] | None], Output]
    """(alphas, weights or None for the net's own) -> the pass of these, same batch and same draws but no dropout of ops and no perturbation
    of the mixture, without gradient and without a trace in the buffers: how a teacher sees what its student saw."""
    loss: Loss | None = None
    """What stands in the place of the cross-entropy (`Patch.loss`); None where nothing does."""


def groups_of(edge_groups: Iterable[EdgeGroup]) -> Groups:
    return {group.name: group for group in edge_groups}
