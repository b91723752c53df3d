"""A loss of one's own in the place of the cross-entropy, and terms of the alphas on training images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.mixture import Mixture
from archgrad.components.gradients import gradients
from archgrad.components.losses import label_loss, logsumexp, task, weighted
from archgrad.components.relax import softmax
from archgrad.components.schedules import constant
from archgrad.components.select import strongest_genotype
from archgrad.diagnostics.accuracy import accuracy
from archgrad.methods import method
from archgrad.observers.probes import Curvature, Gap, Sharpness
from archgrad.searching import checkpoint
from archgrad.searching.compose import compose
from archgrad.searching.loop import search
from archgrad.searching.patch import Patch
from archgrad.searching.steps import alpha_step, forward, train_gradients, weight_loss
from archgrad.spaces import space
from fakes import Noise
from searching import Record, run, same, values_of

NB = space("nasbench201", channels=4, cells=1, classes=4)


def smooth(output, batch):
    """Cross-entropy with smoothed labels."""
    return F.cross_entropy(output.exact, batch.labels, label_smoothing=0.2)


OWN = Patch("own", loss=smooth)


def batches():
    data = Noise()
    return (next(data.batches(split, 0)) for split in ("train", "val"))


def started(names="darts", *patches, **given):
    made = method(names, NB, patches=patches, **given)
    state = made.start(seed=1, epochs=2, steps=3, images=(24, 24))
    made.begin_epoch(state)
    return made, state


def test_both_halves_of_a_step_use_the_loss_of_the_patch():
    made, state = started("darts", OWN)
    train, val = batches()
    loss, passed = weight_loss(made, state, train, state.alphas, None)
    assert torch.equal(loss, smooth(passed.output, train)) and not torch.equal(
        loss, label_loss(passed.output, train)
    )
    before = state.alphas["cell"].detach().clone()
    at = forward(made, state, "search", "alpha", val, state.alphas)
    expected = gradients(smooth(at.output, val), state.alphas)["cell"]
    values = alpha_step(made, state, train, val)
    moved = state.optimizers["alphas"].state[state.alphas["cell"]]["exp_avg"] / (
        1 - made.alphas.beta1
    )
    torch.testing.assert_close(moved, expected + made.alphas.decay * before)
    assert torch.equal(values["val_loss"], smooth(at.output, val))


@pytest.mark.parametrize(
    "names",
    [
        "darts",
        "gdas",
        "lambdadarts",
        "cdarts",
        "oles+sddarts",
        "dartspt",
        "robustdarts",
        "smoothdarts",
    ],
)
def test_the_cross_entropy_itself_as_a_loss_changes_no_bit(names):
    same_loss = Patch("own", loss=lambda output, batch: F.cross_entropy(output.exact, batch.labels))
    plain, mine = (
        search(method(names, NB, patches=more), Noise(per_epoch=1), 2, seed=1).state
        for more in ([], [same_loss])
    )
    assert (
        same(values_of(plain), values_of(mine))
        and same(plain.alphas, mine.alphas)
        and same(plain.sums, mine.sums)
    )
    other = search(method(names, NB, patches=[OWN]), Noise(per_epoch=1), 2, seed=1).state
    assert not same(values_of(plain), values_of(other)) and not same(plain.sums, other.sums)


def test_the_cyclic_step_reads_it_for_both_networks():
    made, state = started("cdarts", OWN, pretrain=0, warmup=0)
    _, val = batches()
    met = made.stepper.joint_loss(made, state, val)
    torch.testing.assert_close(
        met.labels, smooth(met.search.output, val) + smooth(met.evaluation.output, val)
    )


def test_diagnostics_and_finalisations_read_it():
    made, state = started("darts", OWN)
    data = Noise()
    net, mixture = state.nets["search"], made.readout(state)
    batch = next(data.evaluation("val"))
    _, found = accuracy(
        net, mixture, data.evaluation("val"), 1, batch_statistics=True, loss=made.loss
    )
    net.train()
    assert found == pytest.approx(smooth(net(batch.images, mixture), batch).item(), rel=1e-5)
    probes = [Gap(1, 8), Sharpness(1, ("weights",), batches=1, batch=8), Curvature(1, 1, 8)]
    rows = []
    for more in ([], [OWN]):
        record = Record()
        run(method("darts", NB, patches=more), [*probes, record], epochs=1)
        rows.append(record.rows[-1])
    for name in ("mixture_loss", "sharpness_weights", "eigenvalue", "train_loss"):
        assert rows[0][name] != rows[1][name], name
    decided = [
        run(method("dartspt", NB, patches=more, criterion="loss"), epochs=1).state.decisions[0].note
        for more in ([], [OWN])
    ]
    assert decided[0] != decided[1]


def test_two_patches_with_a_loss_are_refused():
    with pytest.raises(ValueError, match="own and other both set loss: use one of them"):
        compose(OWN, Patch("other", loss=lambda output, batch: output.logits.sum()))
    assert (
        method("stdarts+sddarts", NB, patches=[OWN]).loss is smooth
        and method("darts", NB).loss is label_loss
    )
    with pytest.raises(ValueError, match="patch 'own': loss must be a function, not 'smooth'"):
        Patch("own", loss="smooth")


MIXED = Patch("mixed", train_alpha_terms=weighted(constant(0.5), task))
"""Mixed-level optimisation: the alphas learn from validation and, at half the weight, from training images."""


ORDERS = ("first_order", "second_order", "finite_differences")
CHOSEN = {("sddarts", "second_order"), ("gdas", "finite_differences"), ("smoothdarts", ORDERS[0])}
"""Each method with one order, and darts with all."""


@pytest.mark.parametrize(
    ("names", "order"),
    [
        *(("darts", order) for order in ORDERS),
        ("oles", "first_order"),  # it has a first order of its own
        *(
            pytest.param(names, order, marks=[] if (names, order) in CHOSEN else [pytest.mark.slow])
            for names in ("sddarts", "gdas", "smoothdarts")
            for order in ORDERS
        ),
    ],
)
def test_terms_on_training_images_add_to_any_gradient_of_the_alphas(names, order):
    given = {} if names == "oles" else {"darts": {"hypergradient": order}}
    (plain, its), (mixed, own) = started(names, **given), started(names, MIXED, **given)
    train, val = batches()
    statistics = {name: value.clone() for name, value in own.nets["search"].named_buffers()}
    further = train_gradients(mixed, own, train)
    assert same(statistics, dict(own.nets["search"].named_buffers())), "the pass only looks"
    passed = forward(mixed, own, "search", "alpha", train, own.alphas)
    expected = gradients(0.5 * label_loss(passed.output, train), own.alphas, zeros=True)
    assert same(further, expected) and further["cell"].abs().sum() > 0
    (plain, its), (mixed, own) = started(names, **given), started(names, MIXED, **given)
    for made, state in ((plain, its), (mixed, own)):
        alpha_step(made, state, train, val)
    first, second = (
        state.optimizers["alphas"].state[state.alphas["cell"]]["exp_avg"] for state in (its, own)
    )
    torch.testing.assert_close(
        second - first, (1 - plain.alphas.beta1) * further["cell"], rtol=1e-3, atol=1e-7
    )


def test_a_mixed_level_search_goes_on_bit_for_bit_and_strength_0_is_darts(tmp_path):
    from searching import resumed

    made = method("darts", NB, patches=[MIXED], hypergradient="second_order")
    found, rows = resumed(made, ("step", 1, 2), tmp_path / "c.pt")
    record = Record()
    whole = run(made, [record])
    assert (
        same(checkpoint.pack(made, found.state), checkpoint.pack(made, whole.state))
        and rows == record.rows
    )
    off = run(
        method("darts", NB, patches=[Patch("mixed", train_alpha_terms=weighted(constant(0), task))])
    ).state
    assert same(off.alphas, run(method("darts", NB)).state.alphas)


def test_the_step_of_cdarts_does_not_read_them():
    with pytest.raises(ValueError, match="its stepper does not read train_alpha_terms"):
        method("cdarts", NB, patches=[MIXED])


def weakest(mixture, groups, limits=()):
    turned = Mixture({name: -rows for name, rows in mixture.weights.items()})
    return strongest_genotype(turned, groups, limits)


def test_a_selection_for_any_mixture_composes_with_any_relaxation():
    mine = Patch("weakest", select=weakest, any_mixture=True)
    for names in ("darts", "stdarts", "gdas", "drnas"):
        made, plain = method(names, NB, patches=[mine]), method(names, NB)
        assert (
            made.select is weakest
            and made.relax.__qualname__ == plain.relax.__qualname__
            and made.patch.readout is plain.patch.readout
        )
        assert made.patch.any_mixture is False or names == "darts"
    found = run(method("gdas", NB, patches=[mine]), epochs=1)
    assert found.genotype != run(method("gdas", NB), epochs=1).genotype
    own = Patch("soft", readout=softmax, any_mixture=True)
    assert method("stdarts", NB, patches=[own]).patch.readout is softmax
    both = compose(mine, own)
    assert (both.select, both.readout, both.any_mixture) == (weakest, softmax, True)


@pytest.mark.parametrize(
    ("names", "patch", "says"),
    [
        (
            "fairdarts",
            Patch("mine", select=weakest, any_mixture=True),
            "fairdarts and mine both set select",
        ),
        (
            "gdas",
            Patch("mine", readout=strongest_genotype, any_mixture=True),
            "gdas and mine both set readout",
        ),
        ("gdas", Patch("mine", select=weakest), "gdas and mine both set relax/readout/select"),
    ],
)
def test_a_patch_for_any_mixture_is_refused_where_it_conflicts(names, patch, says):
    with pytest.raises(ValueError, match=says):
        method(names, space("darts", channels=4, cells=3, nodes=2, classes=4), patches=[patch])
    with pytest.raises(ValueError, match="a relaxation of its own, so it cannot read any mixture"):
        Patch("mine", relax=softmax, select=weakest, any_mixture=True)


def test_a_term_of_the_alphas_is_no_term_of_the_weights():
    made = method("darts", NB, patches=[MIXED, Patch("more", alpha_terms=logsumexp)])
    assert (
        made.weight_terms == (task,)
        and made.alpha_terms == (task, logsumexp)
        and len(made.patch.train_alpha_terms) == 1
    )
