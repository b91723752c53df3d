"""Settings: read from YAML and flags, checked, merged, written back."""

from __future__ import annotations

from pathlib import Path

import pytest

from archgrad import run
from archgrad.run import config
from archgrad.run.config import SearchConfig, read, read_yaml
from archgrad.run.sections import DataSettings, SearchSettings
from archgrad.searching.types import Plan

ROOT = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(
    path for path in ROOT.rglob("*.yaml") if path.parent.name != "claims"
)  # those are studies: test_compare


def test_later_sources_win_section_by_section():
    file = {
        "search": {"epochs": 3, "batch": 8},
        "data": "digits",
        "darts": {"order": "weight_first"},
    }
    found = read(("recipe.yaml", file), ("", {"search": {"epochs": 5}, "seed": 2}))
    assert found.search == SearchSettings(epochs=5, batch=8)
    assert found.data.path == "digits" and found.seed == 2
    assert found.methods == {"darts": {"order": "weight_first"}}


def test_dashes_and_short_forms():
    found = read(
        ("", {"data": {"image-column": "x"}, "space": "darts", "search": {"checkpoint-seconds": 2}})
    )
    assert (
        found.data.image_column == "x"
        and found.space == {"name": "darts"}
        and found.search.checkpoint_seconds == 2
    )


def test_null_counts_as_unset():
    assert read(("", {"seed": None, "search": {"epochs": None}, "weights": None})) == SearchConfig()


def test_a_search_section_of_a_file_acts(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("search: {epochs: 3}\nretrain: {epochs: 2}\nweights: {lr: 1e-2}\n")
    found = read(read_yaml(file))
    assert (
        found.search.epochs == 3
        and found.retrain == {"epochs": 2}
        and found.weights == {"lr": 0.01}
    )


def test_what_is_written_reads_back(tmp_path):
    first = SearchConfig(
        seed=3,
        data=DataSettings(path="digits", cutout=2),
        space={"name": "darts", "primitives": ("none", "skip_connect")},
        methods={"darts": {"order": "weight_first"}},
        retrain={"preset": "quick"},
    )
    (tmp_path / "config.yaml").write_text(first.to_yaml())
    assert read(read_yaml(tmp_path / "config.yaml")) == first


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"serch": {}}, "unknown setting 'serch': did you mean 'search'?"),
        ({"search": {"epoch": 3}}, "unknown option of search 'epoch': did you mean 'epochs'?"),
        ({"search": {"epochs": 0}}, "search.epochs: "),
        ({"search": {"epochs": "many"}}, "search.epochs: .*not 'many'"),
        ({"search": 3}, "search: a section of settings is expected here, not 3"),
        ({"weights": {"lr": -1}}, "weights.lr: .*not -1"),
        ({"weights": {"decay_": 1}}, "did you mean 'decay'"),
        ({"alphas": {"beta1": 1.5}}, "alphas.beta1: "),
        ({"space": {"chanels": 3}}, "did you mean 'channels'"),
        ({"space": {"channels": "x"}}, "space.channels: "),
        ({"data": {"share": 1}}, "data.share: "),
        ({"retrain": {"epochs": -1}}, "retrain.epochs: "),
        ({"method": "dart"}, "unknown method 'dart': did you mean 'darts'?"),
        ({"darts": {"order": "weights_first"}}, "darts.order: "),
        ({"random": {"draws": 0}, "method": "random"}, "random.draws: "),
        ({"random": {"draws": 4}}, "section 'random' belongs to a method that is not used"),
        ({"seed": -1}, "seed: "),
        ({"budget": {"targets": True}}, "budget.targets: .*not True"),
        ({"budget": {"targets": 3}}, "budget.targets: .*not 3"),
        ({"device": "gpu"}, "device: "),
    ],
)
def test_refusals_name_the_file_and_the_setting(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(("recipe.yaml", given))
    assert str(caught.value).startswith("recipe.yaml: ") and "\n" not in str(caught.value)


def test_a_refusal_of_a_flag_names_no_file():
    with pytest.raises(ValueError, match=r"^search\.epochs: "):
        read(("recipe.yaml", {"search": {"epochs": 3}}), ("", {"search": {"epochs": -3}}))


INFINITE = (
    "weights.lr",
    "weights.lr_end",
    "weights.decay",
    "alphas.lr",
    "alphas.init",
    "alphas.decay",
    "retrain.lr",
    "budget.rate",
)


@pytest.mark.parametrize("setting", INFINITE)
def test_an_infinite_setting_is_refused(setting):
    section, name = setting.split(".")
    with pytest.raises(ValueError, match=name):
        config.read(("", {section: {name: float("inf")}}))


def test_a_gradient_may_be_clipped_at_no_norm():
    assert config.read(("", {"weights": {"clip": float("inf")}})).weights["clip"] == float("inf")


def test_a_section_may_wait_for_the_method_of_a_later_source():
    assert read(("recipe.yaml", {"random": {"draws": 2}}), ("", {"method": "random"})).methods == {
        "random": {"draws": 2}
    }


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words"])
def test_files_that_are_no_settings(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml") as caught:
        read_yaml(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_yaml(tmp_path / "nothing.yaml")


def test_every_section_of_a_method_is_a_section_of_settings():
    assert {"search", "data", "space", "weights", "alphas", "retrain", "darts", "random"} <= set(
        config.sections()
    )


@pytest.mark.parametrize(
    "recipe", RECIPES, ids=lambda path: str(path.relative_to(RECIPES[0].parents[1]))
)
def test_recipes_build(recipe):
    settings = read(read_yaml(recipe))
    resolved = run.resolve(settings, run.build(settings))
    assert resolved.search.epochs and resolved.search.batch and settings.data.path


def test_the_recipes_folder_is_not_empty():
    assert {
        "digits.yaml",
        "darts.yaml",
        "random.yaml",
        "darts_first_order.yaml",
        "darts_second_order.yaml",
    } <= {r.name for r in RECIPES}
    assert all(
        (ROOT / space / f"{method}.yaml").is_file()
        for space in ("darts", "nasbench201")
        for method in ("stdarts", "sddarts", "cdarts")
    )


FULL = Plan(50, 10_000)  # as long as any published search
SPELLED = [recipe for recipe in RECIPES if recipe.stem in ("stdarts", "sddarts")]


@pytest.mark.parametrize("recipe", SPELLED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipes_spell_out_what_a_space_has_anyway(recipe):
    """Every option that has a default, at that default."""
    full = read(read_yaml(recipe))
    bare = full.model_copy(update={"methods": {}, "alphas": {}, "search": SearchSettings()})
    said, found = (
        run.resolve(settings, run.build(settings), FULL).to_mapping() for settings in (full, bare)
    )
    assert set(full.methods[full.method]) >= set(found[full.method])
    assert said == found


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES if recipe.stem.startswith("cdarts")],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_recipes_of_cdarts_spell_out_a_preset(recipe):
    """Every option, at the value of the preset that is named or of the space; of the optimizers all but the learning rate of the weights."""
    full = read(read_yaml(recipe))
    given = full.methods["cdarts"]
    named = {"cdarts": {"preset": given["preset"]}} if "preset" in given else {}
    bare = full.model_copy(
        update={"methods": named, "alphas": {}, "weights": {"lr": full.weights["lr"]}}
    )
    said, found = (
        run.resolve(settings, run.build(settings), FULL).to_mapping() for settings in (full, bare)
    )
    assert set(given) - {"preset"} == set(found["cdarts"])
    assert said == found


def test_the_evaluation_networks_of_cdarts_have_the_papers_depths():
    cells = {}
    for name in ("cdarts", "cdarts_imagenet"):
        method = run.build(read(read_yaml(ROOT / "darts" / f"{name}.yaml")))
        cells[name] = len(method.stepper.nets(method.space.resized(channels=2))["evaluation"].cells)
    assert cells == {"cdarts": 20, "cdarts_imagenet": 14}
