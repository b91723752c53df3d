"""Compare the networks and the steps of archgrad with those of the official code, in float64.

    python benchmarks/parity.py --peer quark0=PATH --peer autodl=PATH

The official code is imported from checkouts. Its weights are copied into our supernets and derived
networks by a map of names; strict loading proves that the map covers every weight of ours. Each
check prints a line with the largest absolute difference and the largest entry. A check holds where
the difference is at most 1e-10 times the largest entry, or at most 1e-10 if all entries are below
1. The exit code is 1 if a check fails. The output is recorded in docs/studies/parity.md.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import NamedTuple

import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archgrad
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch
from archgrad.components.select import uniform_genotype
from archgrad.searching.method import Method
from archgrad.searching.types import State
from archgrad.seeds import generator

LIMIT = 1e-10
Named = Mapping[str, Tensor]
NORMAL_AND_REDUCE = ("normal", "reduce")


class Check(NamedTuple):
    """The result of a comparison: the largest absolute difference and the largest entry."""

    what: str
    difference: float
    largest: float

    @property
    def ok(self) -> bool:
        """Return whether the check holds; it does not for a difference of nan."""
        return self.difference <= LIMIT * max(1.0, self.largest)

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "DIFFERS"
        return f"| {self.what} | {self.difference:.1e} | {self.largest:.1e} | {verdict} |"


def compared(what: str, ours: Named, theirs: Named) -> Check:
    """Compare all tensors by name; the difference is infinite where the names are not the same."""
    if not ours or set(ours) != set(theirs):
        return Check(what, float("inf"), 0.0)
    difference = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    return Check(what, difference, max(tensor.abs().max().item() for tensor in theirs.values()))


def batch(size: int, place: str, *, pixels: int = 32, classes: int = 10) -> Batch:
    """Return a batch of noise that depends only on its place."""
    rng = generator("parity", place)
    images = torch.randn(size, 3, pixels, pixels, generator=rng)
    return Batch(images, torch.randint(classes, (size,), generator=rng), torch.arange(size))


def disturb(network: nn.Module) -> None:
    """Add noise to all parameters: the initial ones and zeros of BatchNorm would hide a swap."""
    rng = generator("parity", "disturb")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)


# The maps of names. A piece of a peer's name is translated by (pattern, replacement), by the first
# pattern that matches the whole piece.

CONV_BN = ((r"(?:op\.)?1\.(.*)", r"conv.\1"), (r"(?:op\.)?2\.(.*)", r"bn.\1"))
OP = {
    "sep_conv": tuple(
        (rf"op\.{i}\.(.*)", rf"{name}.\1")
        for i, name in zip(
            (1, 2, 3, 5, 6, 7),
            (
                f"{half}.{part}"
                for half in ("first", "second")
                for part in ("depthwise", "pointwise", "bn")
            ),
        )
    ),
    "dil_conv": tuple(
        (rf"op\.{i}\.(.*)", rf"{name}.\1")
        for i, name in ((1, "depthwise"), (2, "pointwise"), (3, "bn"))
    ),
    "nor_conv": CONV_BN,
    "skip_connect": ((r"conv_(\d)\.(.*)", r"conv\1.\2"), (r"(bn\..*)", r"\1")),
    "max_pool": ((r"1\.(.*)", r"bn.\1"),),
    "avg_pool": ((r"1\.(.*)", r"bn.\1"),),
}
QUARK0 = (
    (r"stem\.0\.(.*)", r"stem.conv.conv.\1"),
    (r"stem\.1\.(.*)", r"stem.conv.bn.\1"),
    (r"stem0\.0\.(.*)", r"stem.conv1.conv.\1"),
    (r"stem0\.1\.(.*)", r"stem.conv1.bn.\1"),
    (r"stem0\.3\.(.*)", r"stem.conv2.conv.\1"),
    (r"stem0\.4\.(.*)", r"stem.conv2.bn.\1"),
    (r"stem1\.1\.(.*)", r"stem.conv3.conv.\1"),
    (r"stem1\.2\.(.*)", r"stem.conv3.bn.\1"),
    (r"cells\.(\d+)\.preprocess(\d)\.conv_(\d)\.(.*)", r"cells.\1.preprocess.\2.conv\3.\4"),
    (r"cells\.(\d+)\.preprocess(\d)\.bn\.(.*)", r"cells.\1.preprocess.\2.bn.\3"),
    (r"cells\.(\d+)\.preprocess(\d)\.op\.1\.(.*)", r"cells.\1.preprocess.\2.conv.\3"),
    (r"cells\.(\d+)\.preprocess(\d)\.op\.2\.(.*)", r"cells.\1.preprocess.\2.bn.\3"),
    (r"auxiliary_head\.features\.2\.(.*)", r"auxiliary.conv1.\1"),
    (r"auxiliary_head\.features\.3\.(.*)", r"auxiliary.bn1.\1"),
    (r"auxiliary_head\.features\.5\.(.*)", r"auxiliary.conv2.\1"),
    (r"auxiliary_head\.features\.6\.(.*)", r"auxiliary.bn2.\1"),
    (r"auxiliary_head\.(classifier\..*)", r"auxiliary.\1"),
    (r"(classifier\..*)", r"\1"),
)
AUTODL = (
    (r"stem\.0\.(.*)", r"stem.conv.\1"),
    (r"stem\.1\.(.*)", r"stem.bn.\1"),
    (r"conv_([ab])\.op\.1\.(.*)", r"conv_\1.conv.\2"),
    (r"conv_([ab])\.op\.2\.(.*)", r"conv_\1.bn.\2"),
    (r"downsample\.1\.(.*)", r"shortcut.\1"),
    (r"lastact\.0\.(.*)", r"bn.\1"),
    (r"(classifier\..*)", r"\1"),
)


def translated(name: str, table: Iterable[tuple[str, str]]) -> str:
    """Return our name for a piece of a peer's name."""
    for pattern, replacement in table:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise KeyError(f"no entry of the map fits {name}")


def op_name(source: int, target: int, primitive: str, rest: str) -> str:
    """Return our name of a parameter of a primitive.

    A cell has its pools once per source node, and other primitives on their edge.
    """
    place = f"shared.{source}" if "pool" in primitive else f"edges.{source}_{target}"
    kind = primitive if primitive == "skip_connect" else primitive.rsplit("_", 1)[0]
    return f"{place}.{primitive}.{translated(rest, OP[kind])}"


def from_quark0(name: str, network: nn.Module) -> str:
    """Return our name for a parameter of quark0's search network.

    ``network`` is ours: its groups give the edges and primitives.
    """
    edges = {
        group: [e for e in network.groups[group].edges if e.primitives]
        for group in NORMAL_AND_REDUCE
    }
    if match := re.fullmatch(r"cells\.(\d+)\._ops\.(\d+)\._ops\.(\d+)\.(.*)", name):
        cell, edge, k, rest = int(match[1]), int(match[2]), int(match[3]), match[4]
        source, target, primitives = edges[network.kinds[cell]][edge]
        return f"cells.{cell}.{op_name(source, target, primitives[k], rest)}"
    return translated(name, QUARK0)


def from_quark0_derived(
    name: str, network: nn.Module, pairs: Mapping[str, list[tuple[str, int]]]
) -> str:
    """Return our name for a parameter of quark0's derived network.

    ``pairs`` has the (primitive, source) pairs of the genotype, by the kind of the cell.
    """
    if match := re.fullmatch(r"cells\.(\d+)\._ops\.(\d+)\.(.*)", name):
        cell, k, rest = int(match[1]), int(match[2]), match[3]
        primitive, source = pairs[network.kinds[cell]][k]
        return f"cells.{cell}.{op_name(source, 2 + k // 2, primitive, rest)}"
    return translated(name, QUARK0)


def from_autodl(name: str, depth: int, ops: Callable[[str], tuple[int, int, str, str]]) -> str:
    """Return our name for a parameter of an AutoDL network.

    ``ops`` splits a name inside a peer's cell into source, target, primitive and the rest.
    """
    if match := re.fullmatch(r"cells\.(\d+)\.(.*)", name):
        index, rest = int(match[1]), match[2]
        blocks, within = divmod(index, depth + 1)
        if within == depth:
            return f"blocks.{blocks}.{translated(rest, AUTODL)}"
        return f"cells.{index - blocks}.{op_name(*ops(rest))}"
    return translated(name, AUTODL)


class Pair(NamedTuple):
    """A network of a peer and ours.

    Attributes:
        theirs: The peer's network.
        ours: Our network.
        name: A peer's name of a tensor -> ours.
        logits: The peer's network and images -> logits, and auxiliary logits or None.
        left: Pattern of the peer's names that our network does not have.
    """

    theirs: nn.Module
    ours: nn.Module
    name: Callable[[str], str]
    logits: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor | None]]
    left: str = r"arch_parameters|.*num_batches_tracked"

    def renamed(self, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Return the peer's tensors by our names."""
        return {
            self.name(name): tensor for name, tensor in named if not re.fullmatch(self.left, name)
        }

    def copy(self) -> None:
        """Copy the peer's weights into our network."""
        counts = {
            name: b for name, b in self.ours.named_buffers() if name.endswith("num_batches_tracked")
        }
        self.ours.load_state_dict(
            {**counts, **self.renamed(self.theirs.state_dict().items())}, strict=True
        )

    def weights(self, what: str) -> Check:
        """Compare the weights of both networks."""
        return compared(
            what, dict(self.ours.named_parameters()), self.renamed(self.theirs.named_parameters())
        )


def loss_of(logits: Tensor, auxiliary: Tensor | None, labels: Tensor) -> Tensor:
    """Return the cross-entropy, plus 0.4 times that of the auxiliary logits."""
    loss = F.cross_entropy(logits, labels)
    return loss if auxiliary is None else loss + 0.4 * F.cross_entropy(auxiliary, labels)


def slopes(loss: Tensor, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of the loss, by name, with 0 for a tensor that the loss does not reach.

    Behind a `none` one code computes zeros, and the other computes nothing.
    """
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(t) if g is None else g for (name, t), g in zip(named.items(), found)
    }


def passes(
    pair: Pair, data: Batch, mixture: Mixture | None, alphas: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[Check]:
    """Compare logits and gradients in training mode, then logits in evaluation mode.

    ``alphas`` has our alphas and theirs, by group.
    """
    pair.copy()
    with peers.on_cpu():
        theirs, their_auxiliary = pair.logits(pair.theirs, data.images)
    ours = pair.ours(data.images, mixture)
    yield compared("logits", {"": ours.logits}, {"": theirs})
    if their_auxiliary is not None:
        yield compared("auxiliary logits", {"": ours.auxiliary}, {"": their_auxiliary})
    weights = dict(pair.ours.named_parameters()), pair.renamed(pair.theirs.named_parameters())
    of_alphas = {f"alphas of {name}": both for name, both in alphas.items()}
    losses = (
        loss_of(ours.logits, ours.auxiliary, data.labels),
        loss_of(theirs, their_auxiliary, data.labels),
    )
    own, official = (
        slopes(losses[i], {**weights[i], **{name: both[i] for name, both in of_alphas.items()}})
        for i in (0, 1)
    )
    yield compared(
        f"gradients of {len(weights[0])} weight tensors",
        *({n: g[n] for n in w} for g, w in zip((own, official), weights)),
    )
    if alphas:
        yield compared(
            "gradients of the alphas",
            *({name: found[name] for name in of_alphas} for found in (own, official)),
        )
    pair.ours.eval(), pair.theirs.eval()
    with torch.no_grad(), peers.on_cpu():
        yield compared(
            "logits, evaluation mode",
            {"": pair.ours(data.images, mixture).logits},
            {"": pair.logits(pair.theirs, data.images)[0]},
        )
    pair.ours.train(), pair.theirs.train()


def two_steps(
    pair: Pair,
    method: Method,
    state: State,
    step: peers.Step,
    alphas: Mapping[str, Tensor],
    named: str,
) -> Iterator[Check]:
    """Compare weights and alphas after each of two steps of the search."""
    pair.copy()
    train, val = batch(4, "train"), batch(4, "val")
    for k in range(2):
        step(train, val)
        method.step(state, train, val)
        yield pair.weights(f"{named} {k + 1}: weights")
        yield compared(f"{named} {k + 1}: alphas", state.alphas, alphas)


def two_training_steps(pair: Pair, data: Batch, **sgd: float) -> Iterator[Check]:
    """Compare the weights after each of two steps of the retraining: SGD, clipped at 5."""
    pair.copy()
    sides = (dict(pair.ours.named_parameters()), pair.renamed(pair.theirs.named_parameters()))
    optimizers = [torch.optim.SGD(side.values(), 0.025, momentum=0.9, **sgd) for side in sides]
    for k in range(2):
        with peers.on_cpu():
            outputs = pair.ours(data.images)[::2], pair.logits(pair.theirs, data.images)
        for side, output, optimizer in zip(sides, outputs, optimizers):
            for name, slope in slopes(loss_of(*output, data.labels), side).items():
                side[name].grad = slope
            nn.utils.clip_grad_norm_(side.values(), 5.0)
            optimizer.step()
        yield pair.weights(f"step {k + 1} of the retraining: weights")


def selections(
    method: Method, state: State, alphas: dict[str, Tensor], genotype: Callable[[], Genotype]
) -> Check:
    """Count the genotypes that differ, of 50 random alphas."""
    rng, different = generator("parity", "select"), 0
    for _ in range(50):
        for name, theirs in alphas.items():
            theirs.data.copy_(torch.randn(theirs.shape, generator=rng))
            state.alphas[name].data.copy_(theirs.data)
        ours, official = method.genotype(state), genotype()
        different += [set(cell.links) for cell in ours.cells] != [
            set(cell.links) for cell in official.cells
        ]
    return Check("genotypes of 50 random alphas that differ", different, 0.0)


def same_alphas(state: State, theirs: Mapping[str, Tensor]) -> None:
    """Give both networks the same random alphas."""
    rng = generator("parity", "alphas")
    for name, alphas in theirs.items():
        alphas.data.copy_(0.5 * torch.randn(alphas.shape, generator=rng))
        state.alphas[name].data.copy_(alphas.data)


def quark0_search(peer: SimpleNamespace) -> Iterator[Check]:
    """Compare the search networks in the DARTS space, with C=16, 8 cells and a batch of 4."""
    space = archgrad.space("darts")
    for title, hypergradient in (
        ("first order, step", "first_order"),
        ("second order by finite differences, step", "finite_differences"),
    ):
        with peers.on_cpu():
            network = peer.search.Network(16, 10, 8, nn.CrossEntropyLoss())
        disturb(network)
        method = archgrad.method("darts", space, hypergradient=hypergradient, alphas={"lr": 3e-4})
        state = method.start(seed=0, epochs=50, steps=8)
        alphas = dict(zip(NORMAL_AND_REDUCE, network.arch_parameters()))
        same_alphas(state, alphas)
        ours = state.nets["search"]
        pair = Pair(
            network,
            ours,
            lambda name, ours=ours: from_quark0(name, ours),
            lambda net, images: (net(images), None),
        )
        if hypergradient == "first_order":
            mixture = method.mixture(state.alphas, method.context(state, "alpha"))
            yield from passes(
                pair,
                batch(4, "train"),
                mixture,
                {name: (state.alphas[name], alphas[name]) for name in alphas},
            )
            pair.theirs.zero_grad()
        step = peers.quark0_step(peer, network, unrolled=hypergradient != "first_order")
        yield from two_steps(pair, method, state, step, alphas, title)
    yield selections(method, state, alphas, lambda: Genotype.parse(str(network.genotype())))


def spelled(peer: SimpleNamespace, genotype: Genotype) -> object:
    """Return a genotype with two inputs a node as the peer's own tuple."""
    fields = {}
    for cell in genotype.cells:
        fields[cell.group] = [
            (link.primitive, link.source)
            for link in sorted(cell.links, key=lambda link: link.target)
        ]
        fields[f"{cell.group}_concat"] = list(cell.concat)
    return peer.genotypes.Genotype(**fields)


def quark0_derived(
    peer: SimpleNamespace, genotype: Genotype, stem: str, channels: int, cells: int
) -> Iterator[Check]:
    """Compare derived networks with auxiliary head, at a batch of 4 (ImageNet: 2)."""
    pixels, classes, size = (32, 10, 4) if stem == "cifar" else (224, 1000, 2)
    official = spelled(peer, genotype)
    build = peer.model.NetworkCIFAR if stem == "cifar" else peer.model.NetworkImageNet
    with redirect_stdout(None):  # it prints the channels of every cell
        network = build(channels, classes, cells, True, official)
    network.drop_path_prob = 0.0
    disturb(network)
    space = archgrad.space("darts", classes=classes, stem=stem)
    ours = space.derive(genotype, channels=channels, cells=cells, auxiliary=True).network.train()
    pairs = {group: getattr(official, group) for group in NORMAL_AND_REDUCE}
    pair = Pair(
        network,
        ours,
        lambda name: from_quark0_derived(name, ours, pairs),
        lambda net, images: net(images),
    )
    data = batch(size, "derived", pixels=pixels, classes=classes)
    yield from passes(pair, data, None, {})
    yield from two_training_steps(pair, data, weight_decay=3e-4)


def autodl_search(peer: SimpleNamespace) -> Iterator[Check]:
    """Compare the search networks in NAS-Bench-201, with C=16, N=5 and a batch of 4.

    The peer's 1x1 and 3x3 convolutions have a bias (``bias=not affine``), which the BatchNorm
    behind them cancels. Its gradient is 0 and it changes no logit, so our convolutions have none.
    In evaluation mode the peer's bias is set to 0.
    """
    space = archgrad.space("nasbench201")
    five = space.groups["cell"].edges[0].primitives
    network = peer.TinyNetworkDarts(16, 5, 4, 10, list(five), False, True)
    disturb(network)
    biases = re.compile(r".*\.op\.1\.bias")
    for name, parameter in network.named_parameters():
        if biases.fullmatch(name):
            parameter.data.zero_()
    method = archgrad.method("darts", space, alphas={"lr": 3e-4})
    state = method.start(seed=0, epochs=50, steps=8)
    alphas = {"cell": network.arch_parameters}
    same_alphas(state, alphas)

    def inside(rest: str) -> tuple[int, int, str, str]:
        match = re.fullmatch(r"edges\.(\d)<-(\d)\.(\d)\.(.*)", rest)
        assert match is not None, rest
        return int(match[2]), int(match[1]), five[int(match[3])], match[4]

    left = rf"arch_parameters|.*num_batches_tracked|{biases.pattern}"
    pair = Pair(
        network,
        state.nets["search"],
        lambda name: from_autodl(name, 5, inside),
        lambda net, images: (net(images)[1], None),
        left,
    )
    mixture = method.mixture(state.alphas, method.context(state, "alpha"))
    yield from passes(
        pair, batch(4, "train"), mixture, {"cell": (state.alphas["cell"], alphas["cell"])}
    )
    network.zero_grad()
    yield from two_steps(pair, method, state, peers.autodl_step(peer, network), alphas, "step")
    yield selections(method, state, alphas, lambda: Genotype.parse(network.genotype().tostr()))


def autodl_derived(
    peer: SimpleNamespace, genotype: Genotype, channels: int, depth: int
) -> Iterator[Check]:
    """Compare derived networks in NAS-Bench-201, at a batch of 4."""
    structure = peer.Structure.str2structure(str(genotype))
    network = peer.TinyNetwork(channels, depth, structure, 10)
    disturb(network)
    ours = (
        archgrad.space("nasbench201")
        .derive(genotype, channels=channels, cells=depth)
        .network.train()
    )
    links = [
        (source, target, primitive)
        for target, node in enumerate(structure.nodes, 1)
        for primitive, source in node
    ]

    def inside(rest: str) -> tuple[int, int, str, str]:
        match = re.fullmatch(r"layers\.(\d)\.(.*)", rest)
        assert match is not None, rest
        return *links[int(match[1])], match[2]

    pair = Pair(
        network,
        ours,
        lambda name: from_autodl(name, depth, inside),
        lambda net, images: (net(images)[1], None),
    )
    yield from passes(pair, batch(4, "derived"), None, {})
    yield from two_training_steps(pair, batch(4, "derived"), weight_decay=5e-4, nesterov=True)


def suites(given: Mapping[str, object]) -> Iterator[tuple[str, Iterator[Check]]]:
    """Yield the title and the checks of each comparison."""
    if "quark0" in given:
        peer = peers.quark0(given["quark0"])
        yield "quark0 search network, C=16, 8 cells", quark0_search(peer)
        groups = archgrad.space("darts").groups
        drawn = {f"random {k}": uniform_genotype(groups, "parity", k) for k in range(6)}
        for name in ("DARTS_V1", "DARTS_V2", "PDARTS", "PCDARTS"):
            yield (
                f"quark0 NetworkCIFAR, {name}, C=36, 20 cells",
                quark0_derived(peer, Genotype.parse(name), "cifar", 36, 20),
            )
        for name, genotype in drawn.items():
            yield (
                f"quark0 NetworkCIFAR, {name}, C=8, 8 cells",
                quark0_derived(peer, genotype, "cifar", 8, 8),
            )
        for name in ("DARTS_V2", "PCDARTS"):
            yield (
                f"quark0 NetworkImageNet, {name}, C=48, 14 cells",
                quark0_derived(peer, Genotype.parse(name), "imagenet", 48, 14),
            )
    if "autodl" in given:
        peer = peers.autodl(given["autodl"])
        yield "AutoDL search network (NAS-Bench-201), C=16, N=5", autodl_search(peer)
        groups = archgrad.space("nasbench201").groups
        best = (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
            "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
        )
        mixed = (
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
            "|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
        )
        for text in (best, mixed):
            yield (
                f"AutoDL TinyNetwork, `{text}`, C=16, N=5",
                autodl_derived(peer, Genotype.parse(text), 16, 5),
            )
        for k in range(6):
            yield (
                f"AutoDL TinyNetwork, random {k}, C=16, N=1",
                autodl_derived(peer, uniform_genotype(groups, "parity", k), 16, 1),
            )


def main() -> int:
    given = dict(
        peers.arguments("Compare archgrad with official code in float64.").parse_args().peer
    )
    if not given:
        raise SystemExit(
            "name at least one checkout: --peer quark0=PATH (quark0/darts), "
            "--peer autodl=PATH (D-X-Y/AutoDL-Projects)"
        )
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"archgrad {archgrad.__version__}, {versions}, float64, limit {LIMIT:g}\n")
    for name, path in given.items():
        print(f"- {name}: {peers.PEERS[name]} @ {peers.commit(path)}")
    failed = count = 0
    for title, checks in suites(given):
        print(
            f"\n### {title}\n\n| check | largest difference | largest entry | |\n|---|---|---|---|",
            flush=True,
        )
        for check in checks:
            print(check, flush=True)
            count, failed = count + 1, failed + (not check.ok)
    print(f"\n{count - failed} of {count} checks hold.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
