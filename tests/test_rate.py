"""The alphas' rate, fitted to the number of alpha steps: exactly the literature's at the published length, larger in a shorter search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from archgrad.arch.space import AlphaSettings
from archgrad.cli import main
from archgrad.methods import METHODS, Entry, method
from archgrad.methods.pcdarts import pcdarts
from archgrad.methods.stdarts import stdarts
from archgrad.run import config
from archgrad.run.preparing import build
from archgrad.searching import rate
from archgrad.searching.method import Method
from archgrad.searching.patch import Patch
from archgrad.searching.rate import Length, alpha_steps, fitted_rate, rate_factor, rate_lines
from archgrad.searching.types import Plan
from archgrad.spaces import SPACES, space
from fakes import Noise
from running import SMALL, outcome, same
from searching import Saves, gone_on, run
from searching import same as equal

ROOT = Path(__file__).parent.parent / "recipes"
RECIPES = [
    path
    for name in ("darts", "nasbench201")
    for path in sorted((ROOT / name).glob("*.yaml"))
    if path.stem != "cdarts_imagenet"
]
NB = space("nasbench201", channels=2, cells=1, classes=4)
BOTH = [(name, where) for name in METHODS for where in SPACES]
DIGITS = Plan(25, 22)  # 550 steps
AUTO = [one for one in SMALL[: SMALL.index("--alphas.lr")]]


def test_the_length_of_darts_has_19500_alpha_steps():
    assert alpha_steps(method("darts", NB), Length().plan) == 19_500


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_published_lengths_are_those_of_the_recipes(recipe):
    settings = config.read(config.read_yaml(recipe))
    images = round(50_000 * settings.data.share)
    assert settings.search.epochs and settings.search.batch
    length = Length(settings.search.epochs, settings.search.batch, images)
    made = build(settings)
    assert made.published and set(made.published.lengths) == {length.plan}
    assert made.alpha_settings(length.plan) == made.alphas


@pytest.mark.parametrize(("name", "where"), BOTH)
def test_at_full_length_every_setting_is_the_literatures(name, where):
    made = method(name, space(where))
    (full,) = made.published.lengths
    assert rate_factor(made, full) == 1.0
    assert made.alpha_settings(full) == made.alphas
    twice = full._replace(epochs=2 * full.epochs)
    assert (
        made.alpha_settings(twice) == made.alphas
    )  # a longer search is never slower than published


@pytest.mark.parametrize(("name", "where"), BOTH)
def test_a_shorter_search_is_faster_where_alphas_move(name, where):
    made = method(name, space(where))
    here, (full,) = alpha_steps(made, DIGITS), made.published.lengths
    by = 1 + rate.STRETCH * (alpha_steps(made, full) / here - 1) if here else 1
    assert made.alpha_settings(DIGITS).lr == pytest.approx(made.alphas.lr * by) and (
        by > 10 or name in ("random", "rsws")
    )


def test_the_published_rate_is_the_methods_own():
    usual = {
        "darts": 3e-4,
        "pcdarts": 6e-4,
        "pdarts": 6e-4,
        "fairdarts": 3e-3,
        "drnas": 3e-4,
        "lambdadarts": 1e-4,
    }
    for name, lr in usual.items():
        made = method(
            name, NB if name != "pcdarts" else space("nasbench201"), **{"alphas": {"lr": "auto"}}
        )
        assert made.published.lr == made.alphas.lr == lr
        assert (
            made.alpha_settings(DIGITS).lr
            == fitted_rate(made, DIGITS)
            == lr * rate_factor(made, DIGITS)
        )


COUNTED = [
    ("darts", {}), ("random", {"draws": 2}), ("rsws", {"samples": 2}), ("stdarts", {}), ("stdarts", {"freeze": False}), ("snas", {}),
    ("pdarts", {}), ("progressive", {}), ("cdarts", {}), ("cdarts", {"pretrain": 1, "warmup": 2, "joint": 2, "share": 0.7}),
    ("dartspt", {"fixed": True}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given"), COUNTED)
def test_alpha_steps_are_those_that_a_search_takes(name, given, monkeypatch):
    made = method(
        name, space("nasbench201", channels=4, cells=1, classes=4), alphas={"lr": 0.01}, **given
    )
    taken, real = [], torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *arguments: taken.append(1) or real(self, *arguments)
    )
    run(made, epochs=6, data=Noise(per_epoch=2))
    assert len(taken) == alpha_steps(made, Plan(6, 2))
    assert bool(taken) == (name not in ("random", "rsws", "dartspt"))


def test_a_composition_is_at_full_length_where_its_shortest_is():
    both = method("gdas+betadarts", NB)
    assert both.published.lengths == (Length(100).plan, Length(250).plan)
    assert rate_factor(both, Length(100).plan) == 1.0 < rate_factor(both, Length(50).plan)
    assert (
        method("darts+gdas", NB).published == method("gdas", NB).published
    )  # darts changes nothing


def test_methods_with_different_published_rates_need_a_rate_of_the_user():
    with pytest.raises(ValueError, match=r"alphas\.lr"):
        method("drnas+pcdarts", space("nasbench201"), alphas={"lr": "auto"})
    made = method(
        "drnas+pcdarts",
        space("nasbench201"),
        alphas={"lr": 0.01},
        weights={"lr": 0.1, "lr_end": 0.0},
    )
    assert made.published is None and made.alpha_settings(DIGITS).lr == 0.01
    assert rate_lines(made, DIGITS) == [f"alphas: {alpha_steps(made, DIGITS)} steps at 0.01"]


def test_a_rate_that_an_option_of_a_method_sets_is_the_users_word():
    made = method("drnas", NB, alphas_lr=0.03)
    assert made.alpha_settings(DIGITS).lr == 0.03 and made.published.lr == 3e-4
    assert method("drnas", NB, alphas_lr=3e-4).alpha_settings(DIGITS).lr > 3e-3  # as published


def test_an_epoch_beyond_the_published_length_counts_over_the_length_of_this_search():
    made = method("stdarts", NB, warmup=60)
    assert (
        rate.published_steps(made, Plan(100, 10)) == 40 * 390
        and rate_factor(made, Plan(100, 10)) > 1
    )


def test_init_of_stdarts_grows_with_the_rate():
    """So its temperature keeps its proportion to a step, as it is at full length."""
    made = method("stdarts", NB)
    short, usual, by = made.alpha_settings(DIGITS), made.alphas, rate_factor(made, DIGITS)
    assert (short.lr, short.init, short.decay) == (usual.lr * by, usual.init * by, 0.0)
    assert made.start(seed=0, epochs=25, steps=22).alphas["cell"].std().item() == pytest.approx(
        short.init, rel=0.4
    )
    assert made.context(made.start(seed=0, epochs=25, steps=22), "weight").init == short.init
    assert method("stdarts", NB, alphas={"init": 0.5}).alpha_settings(DIGITS).init == 0.5
    assert method("stdarts", NB, alphas={"lr": 0.03}).alpha_settings(DIGITS).init == 1e-3
    assert method("darts", NB).alpha_settings(DIGITS).init == 1e-3
    assert method("cdarts+stdarts", NB).alpha_settings(DIGITS).init > 0.01


HERE = {
    "kappa": 0.04,
    "entropy": "sum",
    "warmup": 0.1,
}  # said by hand, so nothing of the space's preset is lacking


def test_what_is_made_by_hand_keeps_the_published_rate():
    assert AlphaSettings().lr == 3e-4
    assert Method(stdarts(**HERE), NB).alpha_settings(DIGITS) == Method(stdarts(**HERE), NB).alphas
    assert Method(pcdarts(), space("nasbench201")).alpha_settings(DIGITS).lr == 6e-4


def test_the_optimizer_has_the_fitted_rate():
    for name in ("darts", "cdarts"):
        made = method(name, NB)
        state = made.start(seed=0, epochs=25, steps=22)
        assert state.optimizers["alphas"].param_groups[0]["lr"] == fitted_rate(made, DIGITS) > 3e-3


@pytest.mark.parametrize(("name", "given"), [("stdarts", {}), ("progressive", {}), ("cdarts", {})])
def test_a_resumed_search_has_the_same_rate(name, given, tmp_path):
    made = method(name, space("nasbench201", channels=4, cells=1, classes=4), **given)
    saves = Saves([("step", 1, 1), ("epoch", 2, 0)], tmp_path)
    whole = run(made, [saves], data=Noise())
    assert all(path.exists() for path in saves.files.values())
    for path in saves.files.values():
        found, _ = gone_on(made, path)
        assert equal(found.state.alphas, whole.state.alphas) and found.genotype == whole.genotype


@pytest.mark.parametrize("given", ["fast", -1, "nan", "inf"])
def test_what_is_no_rate_is_refused(given, capsys, tmp_path):
    with pytest.raises(ValueError, match=r"alphas\.lr: a number from 0 on, or auto"):
        method("darts", NB, alphas={"lr": given})
    with pytest.raises(ValueError, match=r"alphas\.lr: a number from 0 on, or auto"):
        config.read(("", {"alphas": {"lr": given}}))
    for command in (["search"], ["compare", "--methods", "darts", "--out", str(tmp_path / "s")]):
        assert main([*command, "--data", "digits", "--alphas.lr", str(given), "--dry-run"]) == 2
        assert "alphas.lr" in capsys.readouterr().err


def test_a_dry_run_says_auto_for_it_cannot_know_the_steps(capsys, tmp_path):
    for given, lr in (
        ([], "auto"),
        (["--alphas.lr", "auto"], "auto"),
        (["--alphas.lr", "0.01"], 0.01),
    ):
        assert main(["search", "--data", "digits", "--method", "stdarts", *given, "--dry-run"]) == 0
        found = yaml.safe_load(capsys.readouterr().out)["alphas"]
        assert found["lr"] == lr and ("init" in found) == (lr != "auto")
    file = tmp_path / "settings.yaml"
    file.write_text("data: digits\nalphas: {lr: auto}\n")
    assert main(["search", "--config", str(file), "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["alphas"]["lr"] == "auto"


def test_a_run_records_the_numbers_and_they_give_the_same_run(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["search", *AUTO, "--method", "stdarts", "--out", str(first)]) == 0
    recorded = yaml.safe_load((first / "config.yaml").read_text())["alphas"]
    made = method("stdarts", NB)
    assert (recorded["lr"], recorded["init"]) == (
        fitted_rate(made, Plan(3, 3)),
        1e-3 * rate_factor(made, Plan(3, 3)),
    )
    assert main(["search", "--config", str(first / "config.yaml"), "--out", str(second)]) == 0
    assert same(outcome(first), outcome(second))


def test_a_config_recorded_before_keeps_its_number(tmp_path):
    """It always has one."""
    assert build(config.read(("", {"alphas": {"lr": 3e-4}}))).alpha_settings(DIGITS).lr == 3e-4


def test_a_search_says_its_alpha_steps_and_its_rate():
    (line,) = rate_lines(method("darts", NB), DIGITS)
    assert (
        line
        == f"alphas: 550 steps at {fitted_rate(method('darts', NB), DIGITS):.3g} (published: 19,500 at 0.0003)"
    )
    (line,) = rate_lines(method("stdarts", NB), DIGITS)
    assert ", from 0." in line and "(published: 15,600 at 0.0003)" in line
    assert rate_lines(method("random", NB), DIGITS) == rate_lines(method("rsws", NB), DIGITS) == []
    assert rate_lines(Method(stdarts(**HERE), NB), DIGITS) == [
        "alphas: 506 steps at 0.0003"
    ]  # a default of the method alone, not of the space


def test_a_rate_far_below_what_fits_is_said_before_the_first_step(capsys, tmp_path):
    fits = fitted_rate(method("darts", NB), DIGITS)
    for lr, lines in ((fits / 3.01, 2), (fits / 2.99, 1), (fits * 10, 1)):
        assert len(rate_lines(method("darts", NB, alphas={"lr": lr}), DIGITS)) == lines
    *_, said = rate_lines(method("darts", NB, alphas={"lr": 3e-4}), DIGITS)
    assert said.startswith(
        f"alphas.lr 0.0003 is less than a third of {fits:.3g}, the rate that fits 550 alpha steps"
    )
    assert main(["search", *AUTO, "--alphas.lr", "3e-4", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    said = (
        "alphas: 9 steps at 0.0003 (published: 19,500 at 0.0003)",
        "less than a third",
        "epoch 1/3",
    )
    assert sorted(said, key=shown.index) == list(said)


def test_a_method_of_the_users_own_is_as_long_as_its_space(monkeypatch):
    """It has no published length, its patch may have another name, and an option of it may have no default."""
    monkeypatch.setitem(
        METHODS, "own", Entry(lambda *, strength: Patch("other", alphas={"lr": 0.002}), "", "")
    )
    made = method("own", NB, strength=2)
    assert made.published == rate.Published(0.002, (Length().plan,), True)


def test_the_table_of_lengths_is_that_of_the_methods():
    def words(length: Length) -> str:
        own = {
            "epochs": f"{length.epochs} epochs",
            "batch": f"batch {length.batch}",
            "images": f"{length.images:,} images",
        }
        return ", ".join(
            text
            for field, text in own.items()
            if getattr(length, field) != getattr(Length(), field)
        )

    section = (
        (ROOT.parent / "docs" / "methods.md")
        .read_text()
        .split("## The rate of the alphas")[1]
        .split("**How c was fixed.**")[0]
    )
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    shown = {name.strip("` "): cells for names, *cells in rows for name in names.split(",")}
    alphas_move = {
        name: entry for name, entry in METHODS.items() if entry.lengths and name != "rsws"
    }
    spaces = [name.strip("`") for name in header[1:]]
    assert shown == {
        name: [words(entry.lengths[where]) if where in entry.lengths else "" for where in spaces]
        for name, entry in alphas_move.items()
    }
