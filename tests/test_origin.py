"""Where patches come from: a method made without the options of its space is refused, and the one door knows them."""

from __future__ import annotations

import pickle

import pytest

import archgrad
from archgrad.components.losses import logsumexp, task
from archgrad.methods import METHODS, method
from archgrad.methods.gdas import gdas
from archgrad.methods.sddarts import sddarts
from archgrad.methods.stdarts import stdarts
from archgrad.searching.compose import compose
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.spaces import SPACES, space

NB = space("nasbench201", channels=4, cells=1, classes=4)
MINE = Patch("mine", weight_terms=(logsumexp,), weights={"lr": 0.5})


def test_the_bare_form_is_refused_where_a_preset_of_the_space_would_differ():
    with pytest.raises(ValueError) as caught:
        Method(compose(stdarts(), sddarts(), MINE), NB)
    assert str(caught.value) == (
        "stdarts has other options in space nasbench201: kappa 0.04 (not 0.06), entropy 'sum' (not 'mean'), warmup 0.2 (not 0.1); make it by "
        "archgrad.method('stdarts+sddarts', space, patches=[...]), which has the presets and takes patches of yours, or set these options yourself"
    )


def test_the_bare_form_is_accepted_where_no_option_differs_or_the_user_set_it():
    assert Method(stdarts(), space("darts")).name == "stdarts"
    assert Method(compose(sddarts(), MINE), NB).name == "sddarts+mine"
    assert Method(stdarts(kappa=0.06, entropy="mean", warmup=0.1), NB).name == "stdarts"
    with pytest.raises(ValueError, match=r"space nasbench201: warmup 0\.2 \(not 0\.1\); make"):
        Method(stdarts(kappa=0.06, entropy="mean"), NB)


def test_a_patch_made_for_one_space_is_refused_in_another():
    patch = method("stdarts", NB).patch
    assert Method(compose(patch, MINE), NB).name == "stdarts+mine"
    for other in ("darts", "s2"):
        with pytest.raises(ValueError, match=f"space {other}: kappa 0.*not 0.04"):
            Method(compose(patch, MINE), space(other))
    with pytest.raises(ValueError, match="idle 'nothing'"):
        Method(gdas(), space("s1"))


def test_archgrad_method_has_the_presets_and_takes_patches():
    found, named = method("stdarts+sddarts", NB, patches=[MINE]), method("stdarts+sddarts", NB)
    assert (
        found.name == "stdarts+sddarts+mine"
        and found.weights.lr == 0.5
        and found.published == named.published
    )
    assert [one.options for one in found.patch.origins] == [
        one.options for one in named.patch.origins
    ]
    assert (
        found.patch.origins[0].options["kappa"] == 0.04 and found.patch.origins[0].name == "stdarts"
    )
    assert found.weight_terms[0] is task and found.weight_terms[-1] is logsumexp
    assert method("darts", NB, patches=[MINE]).name == "mine"


def test_archgrad_method_refuses_conflicting_patches():
    with pytest.raises(ValueError, match="stdarts and cold both set relax/readout/select"):
        method("stdarts", NB, patches=[Patch("cold", relax=lambda alphas, context: None)])
    with pytest.raises(ValueError, match=r"pcdarts and mine both set weights\.lr"):
        method("pcdarts", NB, patches=[MINE])
    assert (
        method("pcdarts", NB, patches=[MINE], weights={"lr": 0.2, "lr_end": 0.0}).weights.lr == 0.2
    )
    with pytest.raises(
        ValueError, match="patch 'stdarts' belongs to the method stdarts, which is also named"
    ):
        method("stdarts", NB, patches=[stdarts()])
    with pytest.raises(ValueError, match=r"archgrad\.method\('sddarts\+stdarts', space"):
        method("sddarts", NB, patches=[stdarts()])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_carries_its_origin(name):
    entry = METHODS[name]
    needed = {
        option: 1
        for option, field in entry.options_model().model_fields.items()
        if field.is_required()
    }
    (origin,) = entry.patch(**needed).origins
    assert (origin.name, origin.presets, set(origin.options)) == (
        name,
        entry.presets,
        set(origin.defaults) | needed.keys(),
    )
    assert pickle.loads(pickle.dumps(origin)) == origin


@pytest.mark.parametrize("space_name", SPACES)
def test_archgrad_method_gives_every_method_the_options_of_its_space(space_name):
    for name, entry in METHODS.items():
        for preset in {None, *entry.presets} - set(SPACES):
            given = {"preset": preset} if preset else {}
            patch = entry.make_patch(name, space_name, given)
            assert not patch.origins or not patch.origins[0].differing_options(space_name), (
                name,
                preset,
            )


def test_an_option_said_as_the_preset_of_another_space_is_the_users():
    made = archgrad.method("cdarts", space("darts"), preset="released")
    assert made.patch.origins[0].options["distance"] == "smooth_l1"
