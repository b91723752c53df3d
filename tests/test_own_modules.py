"""Choices in a user's own module: what they compute, what they cost, what is derived, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import archgrad
from archgrad.arch.genotype import Genotype
from archgrad.arch.passes import Batch
from archgrad.components.select import uniform_genotype
from archgrad.cost.counting import costs
from archgrad.methods import method
from archgrad.modules.counting import count
from archgrad.searching.steps import part_hypergradient, weight_loss
from archgrad.seeds import generator
from archgrad.tabular import nasbenchmacro
from archgrad.user_loop import Search
from own_modules import KINDS, Signal

X = torch.zeros(1, 8)
SAME = nn.Tanh()


def small(**choices: nn.Module) -> nn.Module:
    """A module whose choices run one behind the other."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, choice in choices.items():
                setattr(self, name, copy.deepcopy(choice))

        def forward(self, x: Tensor) -> Tensor:
            for name in choices:
                x = getattr(self, name)(x)
            return x

    return Small


def two(**given) -> nn.Module:
    return archgrad.Choice({"linear": nn.Linear(8, 8), "skip": nn.Identity()}, **given)


# What a choice computes.


def test_choices_compute_the_weighted_sum():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = two()
            self.deep = archgrad.Repeat(lambda: nn.Linear(8, 8), least=0, most=2)
            self.merge = archgrad.InputChoice(3, 2)
            self.mean = archgrad.InputChoice(2, how="mean")

        def forward(self, x: Tensor) -> Tensor:
            a = self.one(x)
            b = self.deep(a)
            return self.mean(self.merge(x, a, b), x)

    supernet = archgrad.module_space(Net, X).supernet()
    net, x = supernet.net, torch.randn(4, 8)
    rows = {"one": 2, "deep": 3, "merge": 3, "mean": 2}
    weights = {name: torch.rand(1, count) for name, count in rows.items()}
    w = {name: row[0] for name, row in weights.items()}
    first, second = net.deep.blocks
    a = w["one"][0] * net.one.alternatives[0](x) + w["one"][1] * x
    b = w["deep"][0] * a + w["deep"][1] * first(a) + w["deep"][2] * second(first(a))
    merged = w["merge"][0] * x + w["merge"][1] * a + w["merge"][2] * b
    expected = (w["mean"][0] * merged + w["mean"][1] * x) / w["mean"].sum()
    from archgrad.arch.mixture import Mixture

    torch.testing.assert_close(supernet(x, Mixture(weights)).logits, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_one_hot_supernet_is_the_derived_network(kind):
    one = KINDS[kind]
    space, inputs = one.space(), one.batch(0)[0]
    supernet = space.supernet().eval()
    for seed in range(6):
        genotype = uniform_genotype(space.groups, seed)
        network = space.derive(genotype).network
        network.net.load_state_dict(derived_state(supernet.net, genotype, space), strict=True)
        found = supernet(inputs, genotype.one_hot(space.groups)).logits
        assert torch.equal(found, network.eval()(inputs).logits)


def derived_state(net: nn.Module, genotype, space) -> dict[str, Tensor]:
    from archgrad.modules.blueprint import replaced

    kept = {name: edges[0] for name, edges in genotype.primitives(space.groups).items()}
    return replaced(copy.deepcopy(net), space.plan.places, kept).state_dict()


def test_a_shared_label_is_one_decision_and_counts_twice():
    space = KINDS["residual"].space()
    assert [*space.groups] == ["both", "three"]
    shallow, deep = (
        Genotype.from_json(
            {
                "both": {"links": [[0, 1, name]], "concat": [1]},
                "three": {"links": [[0, 1, "skip"]], "concat": [1]},
            }
        )
        for name in ("skip", "conv3")
    )
    net = space.derive(deep).network.net
    assert str(net.one) == str(net.two) and net.one is not net.two
    params = costs(space, 0)["params"]
    one = sum(p.numel() for p in net.one.parameters())
    assert (
        params.value_of(deep) - params.value_of(shallow)
        == params.sum_over_ops(deep) - params.sum_over_ops(shallow)
        == 2 * one
    )


def test_a_choice_that_stands_at_two_places_is_replaced_at_both():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = two()
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    space = archgrad.module_space(Net, X)
    net = space.derive(uniform_genotype(space.groups, 0)).network.net
    assert net.first is net.second and not any(
        type(one).__module__.startswith("archgrad") for one in net.modules()
    )


def test_choices_take_any_arguments_and_return_trees():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x, y, *, factor):
            return {"sum": self.layer(x) + y, "both": (x * factor, [y])}

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = archgrad.Choice({"a": Scale(), "b": Scale()})

            class Step(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.layer = nn.Linear(8, 8)

                def forward(self, x, y, *, factor):
                    return self.layer(x) + factor * y

            self.deep = archgrad.Repeat(Step, 1, 3)

        def forward(self, x, y):
            found = self.one(x, y, factor=2)
            return self.deep(found["sum"], found["both"][1][0], factor=0.5)

    space = archgrad.module_space(Net, (X, X))
    run = Search(
        space, epochs=1, steps=1, loss=lambda output, targets: (output - targets).square().mean()
    )
    batch = ((torch.randn(4, 8), torch.randn(4, 8)), torch.randn(4, 8))
    run.step(batch, batch)
    x, y = batch[0]
    assert run.derive()(x, y).shape == (4, 8)
    derived = run.derive("inherit", batches=[batch]).eval()
    one_hot = run.genotype.one_hot(space.groups)
    assert torch.equal(derived(x, y), run.state.nets["search"].eval()((x, y), one_hot).logits)


# Equal to a chain of the library, and to the benchmark.

CHOSEN = {"channels": 2, "classes": 4}


class Rebuilt(nn.Module):
    """The supernet of NAS-Bench-Macro with `archgrad.Choice` at each layer."""

    def __init__(self, space) -> None:
        super().__init__()
        net = space.supernet()
        self.stem, self.head, self.classifier = net.stem, net.head, net.classifier
        self.names = net.names
        self.layers = nn.ModuleDict(
            {
                name: archgrad.Choice(
                    {
                        primitive: net.ops(name, 0, primitive)[0]
                        for primitive in space.groups[name].edges[0].primitives
                    }
                )
                for name in net.names
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for name in self.names:
            x = self.layers[name](x)
        return self.classifier(self.head(x))


def rebuilt(space, size: int):
    return archgrad.module_space(lambda: Rebuilt(space), torch.zeros(1, 3, size, size))


def chain_batch(*place, dtype=torch.float32) -> Batch:
    images, labels, index = KINDS["residual"].batch("chain", *place)
    return Batch(images.to(dtype), labels, index)


def copied_weights(own: nn.Module, library: nn.Module, groups) -> None:
    """Copy the weights of a chain of the library into the module with choices."""
    for part in ("stem", "head", "classifier"):
        getattr(own, part).load_state_dict(getattr(library, part).state_dict())
    for name, group in groups.items():
        for place, primitive in enumerate(group.edges[0].primitives):
            own.layers[name].alternatives[place].load_state_dict(
                library.ops(name, 0, primitive)[0].state_dict()
            )


def test_choices_search_as_the_same_chain_of_the_library():
    """Losses and alpha gradients agree to 1e-12 in float64, and 20 steps find the same genotype."""
    library_space = archgrad.space("nasbenchmacro", **CHOSEN, affine=True)
    own_space = rebuilt(library_space, 8)
    library, own = (method("darts", space) for space in (library_space, own_space))
    of_library, of_own = (m.start(seed=0, epochs=5, steps=4) for m in (library, own))
    for state in (of_library, of_own):
        state.nets["search"].double()
    names = {name: f"layers.{name}" for name in library_space.groups}
    copied_weights(of_own.nets["search"].net, of_library.nets["search"], library_space.groups)
    for name, rows in of_library.alphas.items():
        of_library.alphas[name] = rows.detach().double().requires_grad_()
        of_own.alphas[names[name]] = of_library.alphas[name].detach().clone().requires_grad_()
    for m, state in ((library, of_library), (own, of_own)):
        state.optimizers = m.stepper.optimizers(m, state)
    close = {"rtol": 1e-12, "atol": 1e-12}
    train, val = (chain_batch(split, dtype=torch.float64) for split in ("train", "val"))
    one, _ = part_hypergradient(library, of_library, train, val)
    other, _ = part_hypergradient(own, of_own, train, val)
    for name, gradient in one.items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(other[names[name]], gradient, **close)
    for step in range(20):
        batches = [chain_batch(split, step, dtype=torch.float64) for split in ("train", "val")]
        found, expected = own.step(of_own, *batches), library.step(of_library, *batches)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6)
            if not step:
                torch.testing.assert_close(found[key], value, **close)
        if of_own.step == 4:
            of_own.step = of_library.step = 0
            of_own.epoch, of_library.epoch = of_own.epoch + 1, of_library.epoch + 1
    assert [cell.links for cell in own.genotype(of_own).cells] == [
        cell.links for cell in library.genotype(of_library).cells
    ]


def test_nasbench_macro_with_choices_costs_as_the_benchmark_says():
    """100 networks of the supernet of the benchmark: added up, counted afresh, and in the table."""
    whole = archgrad.space("nasbenchmacro").evaluation()
    space = rebuilt(whole, 32)
    found, library, table = costs(space, 0), costs(whole, 32), nasbenchmacro.table()
    drawn = torch.randperm(len(table), generator=generator(0, "macro"))[:100].tolist()
    for place, row in enumerate(drawn):
        genotype = table.genotype(row)
        own = Genotype(
            tuple(replace_group(cell, f"layers.{cell.group}") for cell in genotype.cells)
        )
        for name, column in (("params", table.params), ("macs", table.macs)):
            assert (
                found[name].sum_over_ops(own) == library[name].sum_over_ops(genotype) == column[row]
            )
        if place < 5:
            network = space.derive(own).network.net
            assert count(network, space.plan.example) == {
                "params": table.params[row],
                "macs": table.macs[row],
            }


def replace_group(cell, group: str):
    return type(cell)(group, cell.links, cell.concat)


# Activation checkpointing.


class Stack(nn.Module):
    """Choices of all kinds in float64, whose activations the forward pass may drop."""

    again = False

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        wide = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 8))
        self.one = archgrad.Choice({"wide": wide, "act": nn.Tanh(), "skip": nn.Identity()})
        self.deep = archgrad.Repeat(
            lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.3)), 0, 2
        )
        self.two = two(label="both")
        self.three = two(label="both")
        self.merge = archgrad.InputChoice(2, how="mean")
        self.head = nn.Linear(8, 4)
        self.double()

    def part(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.two(self.deep(self.one(x))))

    def run(self, part, *arguments: Tensor) -> Tensor:
        return checkpoint(part, *arguments, use_reentrant=False) if self.again else part(*arguments)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.three(self.run(self.part, x))
        return self.head(self.run(self.merge, x, y))


class Dropping(Stack):
    again = True


WIDE = torch.zeros(1, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("darts", {}),
        ("darts", {"hypergradient": "second_order"}),
        ("darts", {"hypergradient": "finite_differences"}),
        ("smoothdarts", {}),
        ("smoothdarts", {"smoothdarts": {"form": "adversarial", "steps": 2}}),
        ("sddarts", {"unit": "step"}),
        ("gdas", {}),
        ("oles", {"interval": 1}),
        ("robustdarts", {"images": 4}),
        pytest.param("dartspt", {}, marks=pytest.mark.slow),
        pytest.param("drnas", {}, marks=pytest.mark.slow),
    ],
)
def test_activations_that_are_computed_again_change_nothing(name, given):
    """By `torch.utils.checkpoint` in the user's forward, by ``recompute``, and by both."""
    ends = []
    for module, recompute in (
        (Stack, "none"),
        (Dropping, "none"),
        (Stack, "cells"),
        (Dropping, "cells"),
    ):
        run = Search(
            archgrad.module_space(module, WIDE), name, epochs=2, steps=2, recompute=recompute,
            val=[wide_batch("val")], **given,
        )  # fmt: skip
        while not run.is_over:
            place = (run.epoch, run.state.step)
            run.step(wide_batch("train", *place), wide_batch("val", *place))
        run.finish(train=[wide_batch("train")])
        # torch's checkpoint shows a batch to a BatchNorm twice, so running statistics may differ.
        ends.append({**dict(run.module.named_parameters()), **run.alphas})
    for end in ends[1:]:
        assert all(torch.equal(value, ends[0][key]) for key, value in end.items())


def wide_batch(*place) -> tuple[Tensor, Tensor]:
    rng = generator(0, "wide", *place)
    inputs = torch.randn(8, 8, generator=rng, dtype=torch.float64)
    return inputs, torch.randint(4, (8,), generator=rng)


def test_a_checkpoint_drops_the_activations_of_choices():
    """The tensors that are saved for the backward pass are fewer."""

    def saved(module: type[nn.Module], recompute: str) -> int:
        sizes = []
        run = Search(archgrad.module_space(module, WIDE), epochs=1, steps=1, recompute=recompute)
        alphas = {name: rows.detach() for name, rows in run.alphas.items()}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            weight_loss(run.method, run.state, Batch(*wide_batch(), torch.arange(8)), alphas, None)
        return sum(sizes)

    whole = saved(Stack, "none")
    assert saved(Dropping, "none") < 0.6 * whole and saved(Stack, "cells") < 0.6 * whole


# Costs.


def hand_counts(kind: str) -> dict[str, dict[str, int]]:
    """The multiply-adds of alternatives by formulas: sequences of 6, width 8."""
    length, width = 6, 8
    attention = 2 * length * length * width  # q k^T, and the product with v
    projections = 4 * length * width * width  # q, k, v and the output
    if kind == "transformer":
        return {
            "mix": {
                "heads": attention + projections,
                "products": attention + projections,
                "skip": 0,
            },
            "feed": {"mlp": 2 * length * 8 * 16, "narrow": 2 * length * 8 * 4, "skip": 0},
        }
    # A step of an LSTM has four gates of the input and of the state, a GRU has three.
    gate = width * width + width * width
    return {
        "read": {
            "lstm": 4 * length * gate,
            "gru": 3 * length * gate,
            "linear": length * width * width,
        }
    }


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_attention_and_recurrent_layers_are_counted_by_hand_formulas(kind):
    space = KINDS[kind].space()
    macs = costs(space, 0)["macs"]
    for group, expected in hand_counts(kind).items():
        ops = {name: macs.ops[group][0, 1, name] for name in expected}
        assert ops == {name: float(value) for name, value in expected.items()}
    genotype = uniform_genotype(space.groups, 1)
    assert macs.value_of(genotype) == macs.sum_over_ops(genotype)


def test_a_bidirectional_lstm_and_cross_attention_are_counted():
    lstm = nn.LSTM(8, 4, 2, batch_first=True, bidirectional=True)
    per_step = 2 * 4 * (8 * 4 + 4 * 4) + 2 * 4 * (8 * 4 + 4 * 4)  # two layers, two directions
    assert count(lstm, (torch.zeros(1, 6, 8),))["macs"] == 6 * per_step

    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.attention(x, y, y)[0]

    found = count(Cross(), (torch.zeros(1, 3, 8), torch.zeros(1, 5, 8)))
    assert found["macs"] == 2 * 3 * 64 + 2 * 5 * 64 + 2 * 3 * 5 * 8
    assert found["params"] == 4 * 64 + 4 * 8


class Hidden(torch.autograd.Function):
    """A product with a matrix that torch's counter does not see."""

    @staticmethod
    def forward(ctx, x, weight):
        return torch.from_numpy(x.detach().numpy() @ weight.detach().numpy().T)

    @staticmethod
    def backward(ctx, g):
        return g, None


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return Hidden.apply(x, self.weight)


def test_an_op_that_nobody_can_count_is_refused_by_name():
    block = archgrad.Choice({"custom": Custom(), "skip": nn.Identity()})
    space = archgrad.module_space(small(block1=block), X)
    with pytest.raises(ValueError, match=r"'block1\.alternatives\.0' \(Custom\) cannot be counted"):
        costs(space, 0)
    with pytest.raises(ValueError, match=r"block1.*leave out the budget"):
        Search(space, epochs=1, steps=1, budget="macs=50%")
    Search(space, epochs=1, steps=1)  # it can be searched without a budget


def test_values_that_only_real_tensors_have_are_read_in_a_second_count():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum().item() >= 0 else x

    block = archgrad.Choice({"masked": Masked(), "skip": nn.Identity()})
    macs = costs(archgrad.module_space(small(block=block), X), 0)["macs"]
    assert macs.ops["block"] == {(0, 1, "masked"): 64.0, (0, 1, "skip"): 0.0}


def test_weights_that_two_alternatives_share_are_refused():
    """Their costs would not add up."""
    shared = nn.Linear(8, 8)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block1 = archgrad.Choice({"a": nn.Sequential(shared), "b": nn.Identity()})
            self.block2 = archgrad.Choice({"c": nn.Sequential(shared), "d": nn.Identity()})

        def forward(self, x: Tensor) -> Tensor:
            return self.block2(self.block1(x))

    with pytest.raises(ValueError, match=r"'a' of 'block1' and 'c' of 'block2' share weights"):
        archgrad.module_space(Tied, X)

    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(8, 8)
            self.block1 = archgrad.Choice({"a": nn.Sequential(self.stem), "b": nn.Identity()})

        def forward(self, x: Tensor) -> Tensor:
            return self.block1(self.stem(x))

    with pytest.raises(
        ValueError, match="'a' of 'block1' and the rest of the module share weights"
    ):
        archgrad.module_space(Outside, X)


# Random modules.

BLOCKS = {
    "linear": lambda: nn.Linear(8, 8),
    "narrow": lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 8, bias=False)),
    "norm": lambda: nn.LayerNorm(8),
    "batch": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),
    "tanh": nn.Tanh,
    "skip": nn.Identity,
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 2, 3, padding=1), nn.Flatten()
    ),
    "grouped": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 2)), nn.Conv1d(4, 8, 1, groups=2), nn.Conv1d(8, 4, 1), nn.Flatten()
    ),
    "lstm": lambda: nn.Sequential(nn.Unflatten(1, (4, 2)), Scan(2), nn.Flatten()),
}


class Scan(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


CHOICE = st.tuples(
    st.just("choice"),
    st.lists(st.sampled_from(sorted(BLOCKS)), min_size=2, max_size=4, unique=True),
    st.sampled_from(["", "", "shared"]),
)
REPEAT = st.tuples(
    st.just("repeat"), st.sampled_from(sorted(BLOCKS)), st.integers(0, 2), st.integers(1, 2)
)
MERGE = st.tuples(
    st.just("merge"), st.integers(1, 2), st.sampled_from(["sum", "mean"]), st.booleans()
)
MODULES = st.lists(st.one_of(CHOICE, REPEAT, MERGE), min_size=1, max_size=4)


class Random(nn.Module):
    """A module drawn by hypothesis: choices, depths and merges of earlier tensors, one behind the other."""

    def __init__(self, plan: list[tuple]) -> None:
        super().__init__()
        self.plan, first = plan, {}
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 4)
        self.parts = nn.ModuleList()
        for one in plan:
            if one[0] == "choice":
                names = first.setdefault(one[2], one[1]) if one[2] else one[1]
                self.parts.append(
                    archgrad.Choice({name: BLOCKS[name]() for name in names}, label=one[2])
                )
            elif one[0] == "repeat":
                self.parts.append(archgrad.Repeat(BLOCKS[one[1]], one[2], one[2] + one[3]))
            else:
                self.parts.append(archgrad.InputChoice(3, one[1], how=one[2]))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x, self.stem(x)]
        for one, part in zip(self.plan, self.parts, strict=True):
            if one[0] == "merge":
                three = (seen[0], seen[-2], seen[-1])
                seen.append(part(list(three)) if one[3] else part(*three))
            else:
                seen.append(part(seen[-1]))
        return self.head(seen[-1])


def check_random(plan: list[tuple]) -> None:
    space = archgrad.module_space(lambda: Random(plan), X)
    run = Search(space, "darts", epochs=1, steps=1)
    rng = generator(0, "random")
    batch = torch.randn(4, 8, generator=rng), torch.randint(4, (4,), generator=rng)
    values = run.step(batch, batch)
    assert all(torch.isfinite(value) for value in values.values())
    found = costs(space, 0)
    for genotype in (run.genotype, uniform_genotype(space.groups, 1)):
        network = space.derive(genotype).network.net
        assert torch.isfinite(network(batch[0])).all()
        afresh = count(network, space.plan.example)
        for name, cost in found.items():
            by_hand = cost.base + sum(
                cost.ops[cell.group][link.source, link.target, link.primitive]
                for cell in genotype.cells
                for link in cell.links
            )
            assert cost.sum_over_ops(genotype) == cost.value_of(genotype) == afresh[name] == by_hand
    inherited = run.derive("inherit", batches=[batch]).eval()
    one_hot = run.genotype.one_hot(space.groups)
    if not any(isinstance(one, nn.BatchNorm1d) for one in run.module.modules()):
        expected = run.state.nets["search"].eval()(batch[0], one_hot).logits
        torch.testing.assert_close(inherited(batch[0]), expected)


QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=30, **QUIET)
@given(MODULES)
def test_random_modules(plan):
    check_random(plan)


@pytest.mark.slow
@settings(max_examples=300, **QUIET)
@given(MODULES)
def test_300_random_modules(plan):
    check_random(plan)


# Bad use.


def test_a_choice_outside_a_search_names_its_place():
    net = archgrad.module_space(small(block1=two()), X).supernet().net
    with pytest.raises(ValueError, match=r"Choice 'block1' ran outside a search.*Search\.derive"):
        net(X)
    with pytest.raises(ValueError, match="a Choice of linear, skip ran outside a search"):
        two()(X)
    with pytest.raises(ValueError, match="an InputChoice of input0, input1 ran outside a search"):
        archgrad.InputChoice(2)(X, X)


class Unreached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = two(), two(), two()

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(x)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = archgrad.Choice({"a": nn.Sequential(nn.Tanh(), two()), "b": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(x)


class InRepeat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep = archgrad.Repeat(two, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(x)


class ByFunction(nn.Module):
    """An alternative that calls a choice which is no child of it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = two()
        hidden = [self.inner]

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return hidden[0](x)

        self.block1 = archgrad.Choice({"a": Calls(), "b": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(x)


class Labels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = two(label="both")
        self.block2 = archgrad.Choice({"tanh": nn.Tanh(), "skip": nn.Identity()}, label="both")

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


class LabelOfAPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = two(), two(label="block1")

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.block1(x))


class InputShapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = archgrad.Choice({"tanh": nn.Tanh(), "skip": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(self.block1(x)[:, :4])


class OutputShapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = archgrad.Choice({"wide": nn.Linear(8, 16), "skip": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(x)


class Forms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = archgrad.Choice({"lstm": nn.LSTM(8, 8), "skip": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(x)


class TooFew(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.merge = archgrad.InputChoice(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(x, x)


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = two()

    def forward(self, x: Tensor) -> Tensor:
        return self.block1(x[:, :5])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Unreached, r"never reaches choice 'block1' and 'block3'"),
        (Nested, r"choice 'block1\.alternatives\.0\.1' lies inside choice 'block1'"),
        (InRepeat, r"choice 'deep\.blocks\.0' lies inside choice 'deep'"),
        (ByFunction, r"Choice 'inner' runs inside 'block1'"),
        (
            Labels,
            r"'block1' and 'block2' have the label 'both' .*linear and skip, and tanh and skip",
        ),
        (LabelOfAPath, r"choice 'block2' has the label 'block1', which is the place of another"),
        (InputShapes, r"reaches choice 'block1' with shapes \[\(1, 8\)\] and \[\(1, 4\)\]"),
        (OutputShapes, r"Choice 'block1': 'wide' returns \(1, 16\) and 'skip' returns \(1, 8\)"),
        (Forms, r"Choice 'block1': 'lstm' returns .* and 'skip' returns \(1, 8\)"),
        (TooFew, r"InputChoice 'merge' takes 3 tensors, not 2"),
        (Breaks, r"a forward pass on the example fails \(RuntimeError: .*\)"),
        (lambda: nn.Linear(8, 8), "has no choice: write archgrad.Choice, Repeat or InputChoice"),
        (lambda: 3, "the function must return a torch module, not 3"),
        (3, "a class or function that makes a module is expected, not 3"),
    ],
)
def test_a_module_that_cannot_be_searched_is_one_error(module, message):
    with pytest.raises(ValueError, match=message) as caught:
        archgrad.module_space(module, X)
    assert "\n" not in str(caught.value)


def test_a_module_needs_an_example():
    with pytest.raises(ValueError, match="example is missing: give the input of a forward pass"):
        archgrad.module_space(Signal)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: archgrad.Choice({"one": nn.Identity()}), "two or more alternatives"),
        (lambda: archgrad.Choice([nn.Identity(), nn.Tanh()]), "a mapping with two or more"),
        (lambda: archgrad.Choice({"a": nn.Identity(), "b": torch.tanh}), "'b' must be a module"),
        (lambda: archgrad.Choice({"a b": nn.Identity(), "c": nn.Tanh()}), "letters, digits and _"),
        (lambda: archgrad.Choice(dict.fromkeys("ab", nn.Tanh())), "a, b share a module"),
        (lambda: two(label="a-b"), "label has letters, digits and _, not 'a-b'"),
        (lambda: archgrad.Repeat(nn.Tanh, 2, 2), "0 <= least < most, not 2 and 2"),
        (lambda: archgrad.Repeat(nn.Tanh(), 0, 2), "a function that makes a new block"),
        (lambda: archgrad.Repeat(lambda: SAME, 0, 2), "the same module again"),
        (lambda: archgrad.Repeat(lambda: 3, 0, 2), "must be a module, not 3"),
        (lambda: archgrad.InputChoice(2, 2), "1 <= keep < inputs, not keep 2 of 2"),
        (lambda: archgrad.InputChoice(2, how="max"), "unknown how 'max'"),
    ],
)
def test_a_choice_that_cannot_be_is_one_error(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_space_refuses_options_of_other_spaces():
    space = KINDS["signal"].space()
    with pytest.raises(ValueError, match="a module of your own has no option 'channels'"):
        space.resized(channels=4)
    with pytest.raises(ValueError, match="primitives of a module must name first, depth, merge"):
        space.resized(primitives={"first": (("skip",),)})
    kept = {name: (group.edges[0].primitives[:2],) for name, group in space.groups.items()}
    fewer = space.resized(primitives=kept)
    assert [len(group.edges[0].primitives) for group in fewer.groups.values()] == [2, 2, 2]
    assert space.resized(**fewer.spec()).groups == fewer.groups
    with pytest.raises(ValueError, match="primitives of 'merge' must be one list of at least 2"):
        space.resized(primitives=kept | {"merge": (("input0",),)})


def test_arguments_reach_a_factory_that_takes_them():
    space = archgrad.module_space(KINDS["residual"].module, classes=7, in_channels=2, size=6)
    assert space.supernet()(torch.zeros(2, 2, 6, 6)).logits.shape == (2, 7)
    assert space.resized(classes=3).supernet()(torch.zeros(2, 2, 6, 6)).logits.shape == (2, 3)


def test_the_same_seed_gives_the_same_weights_and_the_generator_stays():
    before = torch.random.get_rng_state()
    runs = [Search(KINDS["recurrent"].space(), epochs=1, steps=1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    one, two_, other = (run.module.head.weight for run in runs)
    assert torch.equal(one, two_) and not torch.equal(one, other)


def test_dropped_paths_keep_the_mean_and_spare_identities():
    space = archgrad.module_space(small(block=two()), X)
    run = Search(space, "robustdarts", epochs=2, steps=1, stop=False, drop_path=0.5)
    supernet, inputs = run.state.nets["search"], torch.randn(4000, 8)
    mixture = run.method.mixture(run.alphas, run.method.context(run.state, "weight"))
    torch.manual_seed(0)
    dropped = supernet(inputs, mixture, drop_path=0.5).logits
    whole = supernet(inputs, mixture).logits
    w = mixture.weights["block"][0]
    kept = (dropped - w[1] * inputs).abs().sum(1) > 1e-6
    assert 0.45 < kept.float().mean() < 0.55
    torch.testing.assert_close(dropped.mean(0), whole.mean(0), rtol=0.2, atol=0.05)


@pytest.mark.parametrize(
    "choice",
    [
        lambda: archgrad.Choice({"relu": nn.ReLU(inplace=True), "skip": nn.Identity()}),
        lambda: archgrad.Repeat(lambda: nn.Sequential(nn.ReLU(inplace=True)), 1, 2),
    ],
    ids=["Choice", "Repeat"],
)
def test_an_op_that_changes_its_input_in_place_is_refused(choice):
    """The other ops would read the changed tensor, and another network would be derived."""
    with pytest.raises(ValueError, match=r"an op of choice '1' changes its input in place"):
        archgrad.module_space(
            lambda: nn.Sequential(nn.Linear(4, 4), choice(), nn.Linear(4, 2)), torch.zeros(1, 4)
        )


def test_an_op_in_place_behind_another_one_is_allowed():
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    made = nn.Sequential(archgrad.Choice({"block": block, "skip": nn.Identity()}), nn.Linear(4, 2))
    assert list(archgrad.module_space(made, torch.zeros(1, 4)).groups) == ["0"]


class Whole(nn.Module):
    """An op that returns whole numbers, or a plain number."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> object:
        return float(x.sum()) + 1 if self.plain else x.long()


@pytest.mark.parametrize("plain", [False, True])
def test_alternatives_of_other_types_are_refused(plain):
    with pytest.raises(ValueError, match=r"Choice '0'.*all alternatives must return equal shapes"):
        archgrad.module_space(
            lambda: nn.Sequential(
                archgrad.Choice({"whole": Whole(plain), "skip": nn.Identity()}), nn.Linear(4, 2)
            ),
            torch.zeros(1, 4),
        )


def test_a_module_may_be_nothing_but_a_choice():
    made = archgrad.Choice({"one": nn.Linear(4, 2), "other": nn.Linear(4, 2)})
    assert len(archgrad.module_space(made, torch.zeros(1, 4)).groups) == 1
