"""A search in the user's own loop: every method on every kind of module, batches and closures, exact resume, and refusals."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import archgrad
from archgrad.arch.passes import Batch
from archgrad.methods import METHODS, method
from archgrad.searching import checkpoint
from archgrad.searching.loop import search
from archgrad.user_loop import Search
from own_modules import KINDS, Detector, Signal, detect
from patches import PATCHES
from searching import Record, same

EPOCHS, STEPS = 4, 2
REFUSED = {
    "cdarts": "has no stages",
    "pdarts": r"set pdarts\.depth to 1",
    "pcdarts": "no option 'partial_channels'",
    "progressive": "no option 'partial_channels'",
    "dartsminus": "no option 'extras'",
}
"""Methods that read cells or stages, and what each says."""
SHORT = {"rsws": {"rsws": {"samples": 5, "finalists": 2}}, "robustdarts": {"images": 4}}
ENTRIES = [*(name for name in METHODS if name not in REFUSED), *PATCHES]
CASES = [
    pytest.param(
        name,
        kind,
        id=f"{name}-{kind}",
        marks=[]
        if turn % len(KINDS) == place or (name in ("darts", "stdarts") and kind != "recurrent")
        else [pytest.mark.slow],
    )
    for turn, name in enumerate(ENTRIES)
    for place, kind in enumerate(KINDS)
    if (name, kind) != ("memory", "segmenter")  # that patch reads classes of whole images
]
"""By turns each method runs on one kind in `make test`; `make slow` runs the rest."""


def made(kind: str, name: str, *, epochs: int = EPOCHS, steps: int = STEPS, **given) -> Search:
    one = KINDS[kind]
    space = one.space(**({"logits": pixels} if one.pixels else {}))
    if name in PATCHES:
        given["patches"], name = [PATCHES[name]()], "darts"
    given = {"loss": one.loss, "val": [one.batch("val", "whole")], "samples": (16, 16)} | given
    return Search(space, name, epochs=epochs, steps=steps, **(SHORT.get(name, {}) | given))


def pixels(output: Tensor) -> Tensor:
    """The logits of a segmentation net as a classifier's, (B * H * W, K)."""
    return output.movedim(1, -1).flatten(0, -2)


def go_on(run: Search, kind: str, until: tuple[int, int] | None = None, **given) -> Search:
    """Take the steps up to a place, or all steps and the decisions."""
    batch = KINDS[kind].batch
    while not run.is_over and (run.epoch, run.state.step) != until:
        place = (run.epoch, run.state.step)
        run.step(batch("train", *place), batch("val", *place), **given)
    if run.is_over:
        run.finish(train=[batch("train", k) for k in range(STEPS)])
    return run


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_runs_resumes_bit_for_bit_and_derives(name, kind):
    run = go_on(made(kind, name), kind, (2, 1))
    saved = run.state_dict()
    go_on(run, kind)
    again = made(kind, name)
    again.load_state_dict(saved)
    assert (again.epoch, again.state.step) == (2, 1)
    go_on(again, kind)
    assert same(again.state_dict(), run.state_dict())
    assert again.genotype == run.genotype
    inputs, targets, _ = KINDS[kind].batch("derived")
    fresh, inherited = run.derive(), run.derive("inherit", batches=[inputs])
    for network in (fresh, inherited):
        assert not any(type(one).__module__.startswith("archgrad") for one in network.modules())
        loss = (KINDS[kind].loss or F.cross_entropy)(network.eval()(inputs), targets)
        assert torch.isfinite(loss)
    assert same(again.derive("inherit", batches=[inputs]).state_dict(), inherited.state_dict())


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["residual", "transformer"])
def test_methods_that_read_cells_are_refused_before_a_step(name, kind):
    with pytest.raises(ValueError, match=rf"{name}.*{REFUSED[name]}|{REFUSED[name]}") as caught:
        made(kind, name)
    assert "\n" not in str(caught.value)


def test_pdarts_runs_where_the_user_sets_its_depths():
    run = go_on(
        made("residual", "pdarts", depth=(1.0, 1.0), dropout=(0.0, 0.4), keep=(2,)), "residual"
    )
    assert [len(group.edges[0].primitives) for group in run.state.space.groups.values()] == [2, 2]


@pytest.mark.parametrize(
    ("name", "given"),
    [("robustdarts", {"images": 4}), ("darts", {"hypergradient": "second_order"})],
)
def test_second_derivatives_go_through_attention(name, given):
    run = go_on(made("transformer", name, epochs=2, **given), "transformer")
    assert all(torch.isfinite(rows).all() for rows in run.alphas.values())


class OnceNet(nn.Module):
    """torch's hard sigmoid has a first derivative alone."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = archgrad.Choice({"linear": nn.Linear(8, 8), "skip": nn.Identity()})
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.hardsigmoid(self.block1(x)))


@pytest.mark.parametrize(
    ("name", "given", "switch"),
    [
        ("robustdarts", {}, r"set robustdarts\.stop to false"),
        ("darts", {"hypergradient": "second_order"}, r"finite_differences or first_order"),
    ],
)
def test_an_op_without_a_second_derivative_names_the_switch(name, given, switch):
    space = archgrad.module_space(OnceNet, example=torch.zeros(1, 8))
    batch = (torch.randn(8, 8), torch.randint(4, (8,)))
    run = Search(space, name, epochs=2, steps=1, val=[batch], **given)
    with pytest.raises(ValueError, match=f"second derivatives.*: .*{switch}") as caught:
        run.step(batch, batch)
    assert "\n" not in str(caught.value)
    off = (
        {"stop": False, "drop_path": 0.1}
        if name == "robustdarts"
        else {"hypergradient": "finite_differences"}
    )
    Search(space, name, epochs=2, steps=1, val=[batch], **off).step(batch, batch)


# Logits, metrics and indices.


@pytest.mark.parametrize("name", ["sddarts", "random", "rsws", "dartspt", "stdarts+sddarts"])
def test_methods_that_need_logits_name_the_argument(name):
    space = archgrad.module_space(Detector, example=torch.zeros(1, 3, 8, 8))
    with pytest.raises(
        ValueError, match=rf"{name.split('+')[-1]} .*logits \(B, K\).*module_space\(logits="
    ):
        Search(space, name, epochs=4, steps=2, loss=detect)


def detections(*place) -> tuple[Tensor, dict[str, Tensor]]:
    inputs, labels, _ = KINDS["residual"].batch(*place)
    return inputs, {"label": labels, "box": inputs.mean((2, 3))}


@pytest.mark.parametrize("name", ["darts", "sddarts", "betadarts", "lambdadarts", "smoothdarts"])
def test_a_module_may_return_and_learn_from_any_tree(name):
    space = archgrad.module_space(
        Detector, example=torch.zeros(1, 3, 8, 8), logits=lambda output: output["label"]
    )
    run = Search(space, name, epochs=2, steps=2, loss=detect)
    while not run.is_over:
        values = run.step(detections("train", run.epoch), detections("val", run.epoch))
    assert values.keys() == {"train_loss", "val_loss"}
    assert run.derive()(torch.zeros(2, 3, 8, 8))["box"].shape == (2, 3)


def test_terms_of_strength_zero_need_no_logits():
    space = archgrad.module_space(Detector, example=torch.zeros(1, 3, 8, 8))
    run = Search(space, "betadarts", epochs=2, steps=1, loss=detect)
    run.step(detections(0), detections(1))


def test_targets_that_are_no_classes_are_refused_by_the_name_of_the_method():
    run = made(
        "signal", "random", loss=lambda output, targets: (output[:, 0] - targets).square().mean()
    )
    inputs = KINDS["signal"].batch(0)[0]
    batch = inputs, inputs.mean((1, 2))
    with pytest.raises(ValueError, match=r"random judges networks by their accuracy.*\(8,\)"):
        run.step(batch, batch)


def test_dartspt_judges_by_the_loss_where_targets_are_no_classes():
    def squared(output, targets):
        return (output[:, 0] - targets).square().mean()

    inputs = KINDS["signal"].batch(0)[0]
    batch = inputs, inputs.mean((1, 2))
    run = made("signal", "dartspt", epochs=1, steps=1, loss=squared, criterion="loss", val=[batch])
    run.step(batch, batch)
    assert run.finish(train=[batch]) == run.genotype


def test_the_default_loss_names_the_arguments_where_it_does_not_fit():
    space = archgrad.module_space(Detector, example=torch.zeros(1, 3, 8, 8))
    run = Search(space, "darts", epochs=1, steps=1)
    batch = detections(0)
    with pytest.raises(ValueError, match=r"cross-entropy.*returned dict.*module_space\(logits="):
        run.step(batch, batch)
    run = made("signal", "darts")
    with pytest.raises(ValueError, match=r"cross-entropy.*give a loss"):
        run.step((torch.zeros(4, 2, 16), torch.zeros(4)), (torch.zeros(4, 2, 16), torch.zeros(4)))


def test_logits_that_fail_are_refused_at_once():
    with pytest.raises(ValueError, match=r"logits: the function fails .*KeyError: 'labels'"):
        archgrad.module_space(
            Detector, example=torch.zeros(1, 3, 8, 8), logits=lambda output: output["labels"]
        )


def test_remembered_logits_need_the_index_of_each_sample():
    remembered = {"sddarts": {"teachers": "remembered"}}
    run = made("residual", "sddarts", **remembered)
    inputs, labels, index = KINDS["residual"].batch(0)
    with pytest.raises(ValueError, match=r"train: remembered logits .*\(inputs, targets, index\)"):
        run.step((inputs, labels), (inputs, labels))
    with pytest.raises(ValueError, match=r"train: an index of a sample lies outside 0 to 15"):
        run.step((inputs, labels, index + 8), (inputs, labels))
    with pytest.raises(ValueError, match="samples="):
        made("residual", "sddarts", samples=(0, 0), **remembered)
    with pytest.raises(ValueError, match="leave out accumulate"):
        run.step((inputs, labels, index), (inputs, labels), accumulate=2)
    with pytest.raises(ValueError, match="remembered logits"):
        run.step(lambda: F.cross_entropy(run.module(inputs), labels), (inputs, labels))
    go_on(run, "residual")
    assert (run.state.memory["teachers"].tables["weight"]["epoch"] >= 0).any()


# Closures.


def closure(run: Search, batch, loss=F.cross_entropy):
    return lambda: loss(run.module(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("darts", {}),
        ("darts", {"hypergradient": "second_order"}),
        ("darts", {"hypergradient": "finite_differences"}),
        ("sddarts", {"unit": "step"}),
        ("smoothdarts", {"form": "adversarial", "steps": 2}),
        ("gdas", {}),
        ("oles", {"interval": 1}),
        ("betadarts", {}),
    ],
)
def test_closures_search_as_batches_do_bit_for_bit(name, given):
    one, other = (made("signal", name, **given) for _ in range(2))
    batch = KINDS["signal"].batch
    while not one.is_over:
        train, val = (batch(split, one.epoch, one.state.step) for split in ("train", "val"))
        values = one.step(train, val)
        of_closures = other.step(closure(other, train), closure(other, val))
        assert all(torch.equal(value, values[key]) for key, value in of_closures.items())
        assert of_closures.keys() == {"train_loss", "val_loss"}
        assert not any(value.requires_grad for value in of_closures.values())
    assert same(one.alphas, other.alphas)
    assert same(one.module.state_dict(), other.module.state_dict())


def test_a_closure_may_call_the_module_twice():
    """Its logits are those of all calls, so teachers see all of them."""
    run = made("signal", "sddarts", unit="step")
    seen = []
    recall = run.state.memory["teachers"].recall

    def spied(forward):
        found = recall(forward)
        seen.append((forward.output.logits.shape, None if found is None else found[0].shape))
        return found

    run.state.memory["teachers"].recall = spied
    batch = KINDS["signal"].batch
    while not run.is_over:
        one, two = batch("train", run.epoch), batch("train", run.epoch, "other")
        both = lambda one=one, two=two: closure(run, one)() + closure(run, two)()  # noqa: E731
        run.step(both, closure(run, batch("val", run.epoch)))
    assert seen[-1] == ((16, 4), (3, 16, 4))


def test_a_closure_must_return_a_scalar_loss():
    run, batch = made("signal", "darts"), KINDS["signal"].batch(0)
    with pytest.raises(
        ValueError, match=r"loss that the function returns must be a scalar.*\(8, 4\)"
    ):
        run.step(lambda: run.module(batch[0]), lambda: run.module(batch[0]))
    with pytest.raises(ValueError, match="must be a scalar tensor, not None"):
        run.step(lambda: None, lambda: None)


# The same search as `archgrad.search`.


class Fixed:
    """Batches of the zoo as the data of `archgrad.search`."""

    def __init__(self, kind: str) -> None:
        self.batch = KINDS[kind].batch

    def count(self, split: str = "train") -> int:
        return 16

    def steps(self, split: str = "train") -> int:
        return STEPS

    def batches(self, split, epoch, start=0, steps=None) -> Iterator[Batch]:
        for step in range(start, start + (STEPS - start if steps is None else steps)):
            yield Batch(*self.batch(split, epoch, step))

    def evaluation(self, split, batch=256, limit=None) -> Iterator[Batch]:
        yield Batch(*(one[:limit] for one in self.batch(split, "whole")))


@pytest.mark.parametrize("name", ["darts", "stdarts+sddarts", "random", "robustdarts", "gdas+oles"])
def test_a_search_in_the_users_loop_equals_archgrads_bit_for_bit(name):
    kind, record = "residual", Record()
    m = method(name, KINDS[kind].space(), **SHORT.get(name, {}))
    found = search(m, Fixed(kind), EPOCHS, seed=3, observers=[record])
    run = go_on(made(kind, name, seed=3), kind)
    assert same(checkpoint.pack(m, found.state), checkpoint.pack(run.method, run.state))
    assert run.rows == record.rows
    assert run.genotype == found.genotype


def test_a_budget_is_met_and_the_costs_are_those_of_the_derived_network():
    run = go_on(made("residual", "stdarts+sddarts", budget=["macs=50%", "params=70%"]), "residual")
    costs, network = run.costs(), run.derive()
    assert costs["params"] == sum(p.numel() for p in network.parameters())
    for name, cost in run.space.costs().items():
        largest = max(cost.sum_over_ops(g) for g in genotypes(run.space))
        assert (
            costs[name]
            == cost.value_of(run.genotype)
            <= {"macs": 0.5, "params": 0.7}[name] * largest
        )


def genotypes(space):
    from archgrad.components.select import uniform_genotype

    return [uniform_genotype(space.groups, seed) for seed in range(60)]


# Accumulation, optimizers, schedulers, precision.


class Plain(nn.Module):
    """A net without BatchNorm and dropout, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.one = archgrad.Choice(
            {"wide": nn.Linear(8, 8), "act": nn.Tanh(), "skip": nn.Identity()}
        )
        self.deep = archgrad.Repeat(lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU()), 0, 2)
        self.head = nn.Linear(8, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.one(x)))


def plain(size: int = 8, *place) -> tuple[Tensor, Tensor]:
    inputs, labels, _ = KINDS["transformer"].batch("plain", *place, size=size)
    return inputs[:, 0].double(), labels


PLAIN = archgrad.module_space(Plain, example=torch.zeros(1, 8, dtype=torch.float64))


@pytest.mark.parametrize("name", ["darts", "stdarts", "smoothdarts", "betadarts", "gdas", "drnas"])
@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_parts_are_the_whole_batch(name, parts):
    whole, some = (Search(PLAIN, name, epochs=2, steps=2) for _ in range(2))
    while not whole.is_over:
        train, val = plain(8, "train", whole.epoch), plain(8, "val", whole.epoch)
        values, others = whole.step(train, val), some.step(train, val, accumulate=parts)
        assert values.keys() == others.keys()
        for key, value in values.items():
            torch.testing.assert_close(value.double(), others[key].double(), rtol=1e-6, atol=1e-6)
    # The weights are float64, but the alphas that mix them are float32.
    for net, other in zip(whole.module.parameters(), some.module.parameters()):
        torch.testing.assert_close(net, other, rtol=1e-7, atol=1e-8)
    for group, rows in whole.alphas.items():
        torch.testing.assert_close(rows, some.alphas[group], rtol=1e-4, atol=1e-5)


def test_accumulated_gradients_equal_those_of_the_whole_batch_to_1e_12():
    from archgrad.components.gradients import gradients
    from archgrad.searching.steps import part_hypergradient, weight_loss

    run = Search(PLAIN, "darts", epochs=2, steps=2)
    run.state.alphas = {
        name: rows.detach().double().requires_grad_() for name, rows in run.alphas.items()
    }
    batch = Batch(*plain(9), torch.arange(9))
    parts = batch.split(4)
    assert [len(part.labels) for _, part in parts] == [3, 2, 2, 2]
    whole, _ = part_hypergradient(run.method, run.state, batch, batch)
    named = dict(run.state.nets["search"].named_parameters())
    of_weights = gradients(weight_loss(run.method, run.state, batch, run.alphas, None)[0], named)
    for name, gradient in whole.items():
        summed = sum(
            share * part_hypergradient(run.method, run.state, part, part)[0][name]
            for share, part in parts
        )
        torch.testing.assert_close(summed, gradient, rtol=1e-12, atol=1e-14)
    for name, gradient in of_weights.items():
        summed = sum(
            share
            * gradients(weight_loss(run.method, run.state, part, run.alphas, None)[0], named)[name]
            for share, part in parts
        )
        torch.testing.assert_close(summed, gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["oles", "stdarts+oles"])
def test_methods_that_read_a_whole_batch_refuse_parts(name):
    run, batch = made("signal", name), KINDS["signal"].batch(0)
    with pytest.raises(ValueError, match="leave out accumulate"):
        run.step(batch, batch, accumulate=2)
    for parts, message in ((0, "accumulate"), (True, "accumulate"), (1.5, "accumulate")):
        with pytest.raises(ValueError, match=message):
            made("signal", "darts").step(batch, batch, accumulate=parts)
    with pytest.raises(ValueError, match="8 samples cannot be computed in 9 parts"):
        made("signal", "darts").step(batch, batch, accumulate=9)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-3),
    "groups": lambda p: torch.optim.SGD(
        [{"params": [w], "lr": 0.1 if w.dim() > 1 else 0.01} for w in p], momentum=0.9
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["cosine", "cycle"])
def test_optimizers_and_schedulers_of_the_user_resume_exactly(kind, schedule):
    def begin():
        run = made("signal", "stdarts+sddarts", optimizer=OPTIMIZERS[kind])
        if schedule == "cosine":
            return run, torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 8)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            run.optimizer, 0.02, total_steps=9, cycle_momentum=False
        )
        return run, cycle

    def steps(run, scheduler, until=None):
        batch = KINDS["signal"].batch
        while not run.is_over and (run.epoch, run.state.step) != until:
            place = (run.epoch, run.state.step)
            run.step(batch("train", *place), batch("val", *place))
            scheduler.step()
        return run.state_dict()

    run, scheduler = begin()
    buffer = io.BytesIO()
    saved = steps(run, scheduler, (1, 1))
    torch.save({"search": saved, "scheduler": scheduler.state_dict()}, buffer)
    whole = steps(run, scheduler)
    again, other = begin()
    optimizer = again.optimizer
    content = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    again.load_state_dict(content["search"])
    other.load_state_dict(content["scheduler"])
    assert again.optimizer is optimizer
    assert again.optimizer.param_groups[0]["lr"] == other.get_last_lr()[0]
    assert same(steps(again, other), whole)


def test_optimizers_that_cannot_be_used_are_refused_at_construction():
    with pytest.raises(ValueError, match="LBFGS needs a function"):
        made("signal", "darts", optimizer=torch.optim.LBFGS)
    with pytest.raises(ValueError, match=r"function .parameters. -> torch optimizer"):
        made("signal", "darts", optimizer=lambda p: None)
    with pytest.raises(
        ValueError, match=r"second-order hypergradient needs SGD, Adam or AdamW .*, not RMSprop"
    ):
        made("signal", "darts", optimizer=torch.optim.RMSprop, hypergradient="second_order")


def test_weights_that_the_user_froze_stay():
    class Frozen(Signal):
        def __init__(self):
            super().__init__()
            self.stem.requires_grad_(False)
            self.first.alternatives[0].requires_grad_(False)

    for name in ("darts", "sddarts", "oles", "smoothdarts"):
        space = archgrad.module_space(Frozen, example=torch.zeros(1, 2, 16))
        run = Search(space, name, epochs=2, steps=STEPS)
        before = copy.deepcopy(run.module.state_dict())
        go_on(run, "signal")
        after = run.module.state_dict()
        for key in ("stem.weight", "first.alternatives.0.0.weight"):
            assert torch.equal(before[key], after[key])
        assert not torch.equal(before["head.weight"], after["head.weight"])


# torch has no LSTM in bf16 on many CPUs.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"recurrent"}))
def test_bf16_runs(kind):
    run = go_on(made(kind, "stdarts+sddarts", epochs=2, precision="bf16"), kind)
    assert all(torch.isfinite(rows).all() for rows in run.alphas.values())
    assert all(p.dtype == torch.float32 for p in run.module.parameters())


# Bad use.


def test_bad_use_is_one_error():
    batch = KINDS["signal"].batch(0)
    run = made("signal", "darts", epochs=1, steps=1)
    for wrong in (None, batch[0], (batch[0],), (*batch, 1), "train", 3):
        with pytest.raises(ValueError, match=r"train: a batch .inputs, targets. or a function"):
            run.step(wrong, batch)
    with pytest.raises(ValueError, match=r"the loss must be a scalar tensor, not a tensor \(8,\)"):
        run.step(
            batch,
            batch,
            loss=lambda output, targets: F.cross_entropy(output, targets, reduction="none"),
        )
    with pytest.raises(ValueError, match="epoch 1 of 1 is not over: take its steps first"):
        run.finish()
    run.step(batch, batch)
    with pytest.raises(ValueError, match="the search is over after 1 epoch: call finish or derive"):
        run.step(batch, batch)
    with pytest.raises(ValueError, match="unknown weights 'old'"):
        run.derive("old")
    with pytest.raises(ValueError, match=r"BatchNorms.*batches=loader"):
        run.derive("inherit")
    with pytest.raises(ValueError, match="metric 'vector' must be a scalar tensor"):
        made("signal", "darts", metrics={"vector": lambda output, targets: output}).step(
            batch, batch
        )
    with pytest.raises(ValueError, match=r"space: a space of archgrad.module_space is expected"):
        Search(archgrad.space("nasbench201"), epochs=1, steps=1)
    with pytest.raises(ValueError, match="unknown method 'dart'"):
        made("signal", "dart")
    with pytest.raises(ValueError, match="unknown cost in a budget"):
        made("signal", "darts", budget="flops=50%")
    with pytest.raises(ValueError, match="budget macs=10 is below the smallest network"):
        made("signal", "darts", budget="macs=10")


def test_a_method_that_decides_at_the_end_must_be_finished():
    run, batch = made("signal", "rsws", epochs=1, steps=1, val=None), KINDS["signal"].batch(0)
    run.step(batch, batch)
    with pytest.raises(ValueError, match=r"rsws decides after the last epoch: call search.finish"):
        run.derive()
    with pytest.raises(ValueError, match=r"rsws measures networks on val batches: give a loader"):
        run.finish()
    with pytest.raises(ValueError, match="val: a batch"):
        run.finish(val=[batch[0]])
    assert run.finish(val=[batch]) == run.genotype
    run = made("signal", "random", epochs=4, steps=1, val=None)
    with pytest.raises(ValueError, match=r"give a loader by Search\(val=loader\)"):
        run.step(batch, batch)


def test_a_state_of_another_search_is_refused():
    saved = go_on(made("signal", "darts"), "signal", (1, 1)).state_dict()
    others = {
        "plan": made("signal", "darts", epochs=5),
        "seed": made("signal", "darts", seed=1),
        "precision": made("signal", "darts", precision="bf16"),
        "method": made("signal", "stdarts"),
        "space": made("residual", "darts"),
        "optimizer": made("signal", "darts", optimizer=torch.optim.AdamW),
    }
    for name, other in others.items():
        before = other.state_dict()
        with pytest.raises(ValueError, match=name):
            other.load_state_dict(saved)
        assert same(other.state_dict(), before), name


def test_a_state_resumes_with_other_memory_use():
    """Checkpointing is no part of a search, so a state with it goes on without, and stays as the new search has it."""
    run = go_on(made("residual", "darts"), "residual", (1, 1))
    again = made("residual", "darts", recompute="cells")
    again.load_state_dict(run.state_dict())
    assert again.state.recompute == "cells"
    assert same(go_on(again, "residual").state_dict(), go_on(run, "residual").state_dict())


def test_a_search_leaves_the_users_random_generator_alone():
    before = torch.random.get_rng_state()
    run = go_on(made("residual", "random"), "residual")
    run.derive(), run.costs()
    assert torch.equal(torch.random.get_rng_state(), before)


# The derived network.


def test_a_derived_network_pickles_saves_and_exports(tmp_path):
    run = go_on(made("signal", "darts", epochs=1), "signal")
    inputs = KINDS["signal"].batch(0)[0]
    network = run.derive("inherit", batches=[inputs]).eval()
    expected = network(inputs)
    assert torch.equal(pickle.loads(pickle.dumps(network))(inputs), expected)
    torch.save(network, tmp_path / "network.pt")
    assert torch.equal(torch.load(tmp_path / "network.pt", weights_only=False)(inputs), expected)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    fresh = run.derive().eval()
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(fresh(inputs), expected)
    exported = torch.export.export(network, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), expected)


def test_an_inherited_network_computes_as_the_supernet_of_its_genotype():
    run = go_on(made("transformer", "darts", epochs=1), "transformer")
    inputs = KINDS["transformer"].batch(0)[0]
    supernet = run.state.nets["search"]
    one_hot = run.genotype.one_hot(run.space.groups)
    assert torch.equal(
        run.derive("inherit").eval()(inputs), supernet.eval()(inputs, one_hot).logits
    )


def test_a_fresh_network_of_an_instance_is_refused():
    torch.manual_seed(0)
    instance = Signal()
    run = Search(archgrad.module_space(instance, torch.zeros(1, 2, 16)), epochs=1, steps=1)
    assert same(run.module.stem.state_dict(), instance.stem.state_dict())
    assert run.module is not instance
    go_on(run, "signal")
    with pytest.raises(ValueError, match=r"instance.*derive\(weights=\"inherit\"\)"):
        run.derive()
    run.derive("inherit", batches=[KINDS["signal"].batch(0)[0]])


@pytest.mark.parametrize(
    ("metrics", "says"), [({"loss": F.cross_entropy}, "take another name"), ([1], "by name")]
)
def test_metrics_that_cannot_be_recorded_are_refused(metrics, says):
    with pytest.raises(ValueError, match=says):
        made("residual", "darts", metrics=metrics)
