"""Was this searched? What a judgement says of alphas, supernets and selections, and that no result stands without it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil

import pytest
import torch

from archgrad import spaces
from archgrad.cli import main
from archgrad.compare import comparison, tables, to_markdown
from archgrad.compare.tidy import tidy_csv
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.errors import counted
from archgrad.methods import method
from archgrad.run import finished
from archgrad.run.folder import RunFolder
from archgrad.run.judgement import Judgement, Part, percent
from archgrad.run.judgement_text import higher, unmoved, unstable
from archgrad.run.judging import initial, judge, least_above_chance
from archgrad.searching.types import Decision
from archgrad.tabular import other_images_note
from fakes import Noise
from running import SMALL
from searching import run

BASE = spaces.space("nasbench201", channels=4, cells=1, classes=4)
DARTS = spaces.space("darts", channels=4, cells=3, classes=4)
CHAIN = spaces.space("nasbenchmacro", channels=4, classes=4)
EPOCHS = 30
CLASSES = [25] * 4

PUBLISHED = [*SMALL[:-2], "--alphas.lr", "3e-4"]  # at which nine steps move nothing


def started(m, epochs: int = EPOCHS):
    return m.start(seed=1, epochs=epochs, steps=3, images=(100, 100))


def rows(texts, **columns) -> list[dict]:
    return [
        {"epoch": k, "genotype": text, "val_accuracy": 0.8, "train_accuracy": 0.9, **columns}
        for k, text in enumerate(texts)
    ]


def moved(state, by: float = 3.0):
    """The same op of every edge ahead, by so much, and the others as far back."""
    for name, group in state.space.groups.items():
        state.alphas[name].data += (
            by * (2 * group.columns([group.edges[0].primitives[1]]).float() - 1) * group.mask()
        )
    return state


def judged(m, state, count: int = EPOCHS, **columns) -> Judgement:
    genotype = m.genotype(state)
    return judge(m, state, genotype, rows([str(genotype)] * count, **columns), CLASSES)


METHODS = ("darts", "stdarts", "gdas", "drnas", "snas", "pcdarts", "dartsminus", "fairdarts")
PLACES = [
    *((name, BASE) for name in METHODS),
    *((name, space) for name in ("darts", "pcdarts") for space in (DARTS, CHAIN)),
]


@pytest.mark.parametrize(("name", "space"), PLACES, ids=lambda one: getattr(one, "name", one))
def test_the_initial_draw_alone_is_no_search(name, space):
    m = method(name, space)
    found = judged(m, started(m))
    assert (
        not found.ok
        and list(found.fails) == ["alphas"]
        and "have not moved" in found.fails["alphas"]
    )
    assert all(part.learned == part.decided == 0 for part in found.parts.values())
    found = judged(m, moved(started(m)))
    assert found.ok and found.lines() == [
        "The search passes its checks: the alphas moved, the supernet is right on 80 % of validation images "
        "(guessing: 25 %), the selection is stable."
    ]
    assert Judgement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_search_of_low_entropy_without_learning_fails():
    """A cold softmax is nearly one-hot before it has learned anything, and so is a draw of large logits."""
    cold, wide = method("stdarts", BASE), method("darts", BASE, alphas={"init": 3.0})
    state = started(cold)
    state.memory["temperature"].growths = [(0, 1e3)]
    for m, one in ((cold, state), (wide, started(wide))):
        assert mean_entropy(m.readout(one), BASE.groups) < 0.5 * math.log(5)
        assert "alphas" in judged(m, one).fails
    with (
        torch.no_grad()
    ):  # of the lead of the wide draw, a step of 0.3 is little; of the usual draw it is nearly all
        for m, far, fails in (
            (wide, 0.3, True),
            (method("darts", BASE), 0.1, True),
            (method("darts", BASE), 0.3, False),
        ):
            assert ("alphas" in judged(m, moved(started(m), far)).fails) is fails


def test_half_of_the_lead_and_a_hundredth_of_the_entropy():
    assert Part(
        6, 0.3, 0.16, 0.016, None
    ).moved  # as decided as a darts search of the published length
    assert not Part(6, 0.3, 0.15, 0.5, None).moved  # the draw decided as much
    assert not Part(6, 0.3, 0.3, 0.009, None).moved


def test_the_rate_that_would_move_them():
    """0.02 of 0.30 is to be 0.28: fourteen times as fast. Decidedness grows as the square."""
    assert higher(0.01, {"cell": Part(6, 0.30, 0.02, 0.2, None)}) == pytest.approx(0.2)
    assert higher(0.01, {"cell": Part(6, 0.30, 0.25, 0.0001, None)}) == pytest.approx(0.1)
    assert higher(3e-4, {"cell": Part(6, 0.001, 0.0009, 0.009, None)}) == pytest.approx(
        6e-4
    )  # never less than twice
    assert (
        higher(0.3, {"cell": Part(6, 0.30, 0.02, 0.2, None)}) is None
    )  # above 1 nothing is sensible
    m = method("darts", BASE, alphas={"lr": 0.01, "init": 0.3})
    state = started(m)
    for a in state.alphas.values():  # the ops that are ahead get a little more
        a.data += 0.02 * torch.nn.functional.one_hot(a.argmax(-1), 5)
    says = judged(m, state).fails["alphas"]
    lead = judged(m, state).parts["cell"].lead
    assert says.startswith(
        f"The alphas hardly moved: the first op leads the second by {lead:.2g}, of which the search learned 0.02 "
        "and the rest is the random start. Another seed would give another cell."
    )
    assert says.endswith(" Set --alphas.lr auto.")  # 0.01 is below what fits so short a search
    fast = unmoved(
        {"cell": Part(6, 0.30, 0.02, 0.2, None)}, {"cell": Part(6, 0.30, 0.02, 0.2, None)}, 0.01
    )
    assert fast.endswith("Raise --alphas.lr to about 0.2, or train longer.")


def test_a_search_that_a_rule_ended_is_told_to_stop_later():
    changed = {"cell": Part(6, 0.3, 0.3, 0.2, 0.5)}
    assert unstable(changed, changed, 2, stopped=True).endswith(
        "A rule ended the search early: set a later --stop.after."
    )
    assert unstable(changed, changed, 2, stopped=False).endswith("Train longer.")


@pytest.mark.parametrize(
    "name", ["progressive", "pdarts", "pcdarts+progressive", "drnas+progressive"]
)
def test_each_stage_is_compared_with_its_own_initial_alphas(name):
    """A stage that draws anew is judged by that draw; one that carries alphas over, by what it kept of the first."""
    m = method(name, BASE, alphas={"lr": 1e-30, "decay": 0.0})
    found = run(m, epochs=6)
    assert max(group.width for group in found.state.space.groups.values()) < 5  # pruned
    drawn = initial(m, found.state)
    assert all(
        torch.equal(drawn[name], a.detach().double()) for name, a in found.state.alphas.items()
    )
    assert (
        "alphas"
        in judge(m, found.state, found.genotype, rows([str(found.genotype)] * 6), CLASSES).fails
    )


def test_alphas_that_no_cell_reads_are_not_judged():
    m = method("darts", spaces.space("darts", channels=2, cells=1, classes=4))
    state = moved(started(m))
    without = next(name for name, group in state.space.groups.items() if not group.cells)
    state.alphas[without].data.copy_(initial(m, state)[without])
    assert (
        f"No cell of the supernet reads the alphas of '{without}'"
        in judged(m, state).fails["alphas"]
    )


def test_groups_are_judged_apart_and_layers_together():
    m = method("darts", DARTS)
    state = started(m)
    state.alphas["normal"].data[:, 1] += 3
    assert "The alphas of 'reduce' have not moved" in judged(m, state).fails["alphas"]
    chain = method("darts", CHAIN)
    assert list(judged(chain, moved(started(chain))).parts) == ["layers"]


def test_chance_by_hand():
    assert least_above_chance(0.1, 100) == pytest.approx(0.16)
    assert least_above_chance(0.1, 100, tries=4) == pytest.approx(0.1 + 2.53 * 0.03, abs=1e-4)
    assert [percent(share) for share in (0.81, 0.0512, 0.0996)] == ["81 %", "5.1 %", "10 %"]
    m = method("darts", BASE)
    state = moved(started(m))
    assert (
        "chance" not in judged(m, state, val_accuracy=0.34).fails
    )  # 0.25 + 2 * sqrt(0.25 * 0.75 / 100) = 0.337
    says = judged(m, state, val_accuracy=0.33).fails["chance"]
    assert says.startswith(
        "The supernet is right on 33 % of validation images, which is no better than guessing (25 %, with luck 34 %)."
    )
    lopsided = judge(
        m,
        state,
        m.genotype(state),
        rows([str(m.genotype(state))] * EPOCHS, val_accuracy=0.6),
        [60, 20, 10, 10],
    )
    assert lopsided.chance == 0.6 and "chance" in lopsided.fails
    unknown = judge(m, state, m.genotype(state), rows([str(m.genotype(state))] * EPOCHS), [])
    assert unknown.ok and unknown.lines() == [
        "The search passes its checks: the alphas moved, the selection is stable."
    ]


def test_the_selection_agrees_with_itself():
    m = method("darts", BASE)
    state = moved(started(m))
    last = str(m.genotype(state))
    one, two = (last.replace("skip_connect", "none", k) for k in (1, 2))
    for texts, held in (
        ([two] * 18 + [one, last], 0.833333),
        ([last] * 18 + [two, last], 0.666667),
        ([two] * 17 + [last] * 3, 1.0),
    ):
        found = judge(m, state, m.genotype(state), rows(texts), CLASSES)
        assert found.parts["cell"].held == held and found.over == 2 and found.ok is (held > 0.75)
    assert (
        "only 67 % of its links were selected in all of the last 2 epochs"
        in judge(m, state, m.genotype(state), rows([two] * 19 + [last]), CLASSES).lines()[0]
    )
    assert judge(m, state, m.genotype(state), rows([two] * 46 + [last] * 4), CLASSES).over == 5
    for count in range(3):
        short = judged(m, state, count).fails["short"]
        assert (
            short
            == f"The search is too short to tell whether its selection is stable: it has {counted(count, 'epoch')}. Train longer."
        )
    assert "No epoch of this search has ended" in judged(m, state, 0).fails["chance"]


def test_a_decision_that_goes_back_is_still_of_the_alphas():
    """`robustdarts` takes what the alphas said some epochs before: those epochs must agree, whatever came later."""
    m = method("darts", BASE)
    state = moved(started(m))
    text = str(m.genotype(state))
    state.decisions = [Decision(m.genotype(state), {"after_epochs": 10})]
    found = judge(
        m,
        state,
        m.genotype(state),
        rows([text] * 10 + [text.replace("skip_connect", "none")] * 10),
        CLASSES,
    )
    assert found.by == "alphas" and found.ok and found.parts["cell"].held == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [("random", {"draws": 2}), ("rsws", {"samples": 3}), ("dartspt", {"tune": 1})],
)
def test_decisions_are_judged_by_what_they_found(name, options):
    m = method(name, BASE, **options)
    found = run(m, epochs=4)
    seen = rows([str(found.genotype)] * 4, draw_accuracy=0.9)
    one = judge(m, found.state, found.genotype, seen, CLASSES)
    assert (
        one.by == "decisions"
        and not one.parts
        and not one.over
        and {"alphas", "selection", "short"}.isdisjoint(one.fails)
    )
    what = {
        "random": "best draw",
        "rsws": "supernet % of training images",
        "dartspt": "supernet % of validation images",
    }
    assert one.what.startswith(what[name])
    if name == "random":
        assert one.accuracy == pytest.approx(found.state.decisions[-1].note["accuracy"], abs=1e-6)
        assert one.least == pytest.approx(
            least_above_chance(0.25, 100, 4), abs=1e-6
        )  # the best of so many
    else:
        assert one.lines()[0].startswith(
            "The search passes its checks: it decided after its epochs, the supernet is right on "
        )


def test_noise_that_is_searched_is_at_chance():
    """A real loop over noise, twenty classes of it: accuracies as low as in the search that took the worst network of its space."""
    m = method(
        "darts", spaces.space("nasbench201", channels=2, cells=1, classes=20), alphas={"lr": 0.5}
    )
    data = Noise(classes=20)
    found = run(m, epochs=4, data=data)
    assert (
        "chance"
        in judge(
            m,
            found.state,
            found.genotype,
            rows([str(found.genotype)] * 4, val_accuracy=0.05),
            [5] * 20,
        ).fails
    )


# where it is shown


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A search whose alphas hardly move; beside its folder stands what it printed."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["search", *PUBLISHED, "--budget", "macs=60%", "--out", str(folder)]) == 0
    folder.with_suffix(".txt").write_text(printed.getvalue())
    return folder


def fails_of(folder) -> list[str]:
    return list(json.loads((folder / "genotype.json").read_text())["searched"]["fails"].values())


def said(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_every_printed_result_has_its_judgement(short, tmp_path, capsys):
    """The judgement stands directly before the verdict and before the next command, and in the files."""
    fails = fails_of(short)
    assert fails and "hardly moved" in fails[0]
    printed = short.with_suffix(".txt").read_text().splitlines()
    verdict = next(k for k, line in enumerate(printed) if "Measurements of this" in line)
    assert printed[verdict - len(fails) : verdict] == fails
    assert printed[-1].startswith(
        "next: search again as advised above, or use this network anyway: archgrad retrain"
    )
    assert (
        printed[-2]
        == "True accuracies are those of CIFAR-10 with 32x32 images; they say little about a search on digits."
    )
    shown = said(capsys, "show", short).splitlines()
    verdict = next(k for k, line in enumerate(shown) if "Measurements of this" in line)
    assert shown[verdict - len(fails) : verdict] == fails and shown[-1] == printed[-2]
    file = tmp_path / "small.json"
    derived = said(capsys, "derive", short, "--budget", "macs=10%", "--out", file).splitlines()
    assert derived[-1 - len(fails) : -1] == fails and derived[-1].startswith(
        "next: search again as advised above"
    )
    assert json.loads(file.read_text())["searched"]["fails"]
    assert all(
        line in said(capsys, "show", one)
        for one in (file, short / "genotype.json")
        for line in fails
    )
    assert all(
        line in said(capsys, "resume", short)
        for line in (*fails, "next: search again as advised above")
    )
    less = [
        "--retrain.preset",
        "quick",
        "--retrain.epochs",
        "1",
        "--retrain.limit",
        "40",
        "--threads",
        "1",
    ]
    assert (
        said(capsys, "retrain", file, *less, "--out", tmp_path / "network").splitlines()[
            : len(fails)
        ]
        == fails
    )
    assert "hardly moved" not in said(capsys, "show", "DARTS_V2")  # of no search


def test_a_run_recorded_before_is_judged_from_its_files(short, tmp_path, capsys):
    """Its genotype.json has no judgement; and of one without a checkpoint nothing is known, which is said."""
    folder = tmp_path / "old"
    shutil.copytree(short, folder)
    content = json.loads((folder / "genotype.json").read_text())
    stored = content.pop("searched")
    for one in content["budget"]:
        del one["wanted"]
    (folder / "genotype.json").write_text(json.dumps(content))
    made = finished.read_judgement(RunFolder(folder))
    assert made is not None and json.loads(json.dumps(made.to_json())) == stored
    assert all(line in said(capsys, "show", folder) for line in fails_of(short))
    (folder / "checkpoint.pt").unlink()
    shown = said(capsys, "show", folder)
    assert "The search cannot be judged" in shown and "to spare" in shown


def test_an_idle_budget_is_said(short, capsys):
    said_of = said(capsys, "derive", short, "--budget", "macs=100%")
    kept = json.loads(said(capsys, "derive", short, "--budget", "macs=100%", "--json"))["budget"][0]
    assert (
        "less than half of the budget of macs is used: without a budget the alphas select"
        in said_of
    )
    assert kept["found"] < 0.5 * kept["budget"] and kept["wanted"] == kept["found"]
    assert "less than half" not in said(
        capsys, "derive", short, "--budget", f"macs={1.5 * kept['found']:.0f}"
    )


def test_where_the_table_is_of_other_images():
    assert (
        other_images_note("uoft-cs/cifar10", 32) is None
        and other_images_note("CIFAR-10", 32) is None
    )
    assert (
        other_images_note("cifar10", 16)
        == "True accuracies are those of CIFAR-10 with 32x32 images; this search had images of 16x16."
    )
    assert "they say little about a search on photos" in (other_images_note("photos", 32) or "")


def made(arm: str, seed: int, *fails: str) -> dict:
    return {
        "arm": arm, "seed": seed, "config": {"space": {"name": "nasbench201"}, "search": {"epochs": 3}, "data": {"size": 8}},
        "data": {"name": "digits"}, "final": {"cifar10_test": 90.0 + seed}, "benchmark": [], "genotype": {"text": ""}, "epochs": {},
        "searched": {"ok": not fails, "fails": dict.fromkeys(fails, "a sentence")},
    }  # fmt: skip


def test_a_table_marks_the_arms_and_says_why(capsys):
    runs = [
        made("darts", 1, "alphas", "selection"),
        made("darts", 2, "alphas"),
        made("darts", 3),
        made("cold", 1),
        made("cold", 2),
    ]
    runs[2].pop("searched")  # recorded before
    from rich.console import Console

    Console(width=tables.WIDTH).print(tables.table(comparison(runs, "darts")))
    shown = capsys.readouterr().out
    assert " 3* " in shown and " 2 " in shown and " 2* " not in shown
    note = "darts: 2 of 3 searches are doubtful (alphas hardly moved 2, selection still changes 1; 1 not judged)."
    assert "1 of 5 searches were recorded by a version that did not judge searches." in " ".join(
        shown.split()
    )
    assert f"* {note}" in " ".join(shown.split()) and f"\\* {note}" in to_markdown(runs, "darts")
    assert "| darts | 1 to 3\\* |" in to_markdown(runs, "darts")
    numbers = comparison(runs, "darts").to_json()["searched"]
    assert (
        numbers["darts"]["1"]
        == {"ok": False, "fails": {"alphas": "a sentence", "selection": "a sentence"}}
        and numbers["cold"]["1"]["ok"]
    )
    assert {"darts,1,searched,0", "cold,2,searched,1"} <= {*tidy_csv(runs, "darts").splitlines()}
    for one in runs:
        one.pop("searched", None)
    assert "searched" not in comparison(runs, "darts").to_json() and "*" not in to_markdown(
        runs, "darts"
    )


def test_alpha_steps_are_counted_to_where_the_search_stopped():
    m = method("darts", BASE)
    state = moved(started(m), 1.0)
    few, all_of_them = (
        judge(m, state, m.genotype(state), rows([str(m.genotype(state))] * count), CLASSES)
        for count in (10, EPOCHS)
    )
    assert (
        "it has 30 alpha steps and needs at least 50" in few.fails["short"]
        and "short" not in all_of_them.fails
    )
