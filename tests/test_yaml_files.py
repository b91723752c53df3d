"""YAML of settings: every name once, no more than was written, and no value of another kind than was meant."""

from __future__ import annotations

import pytest
import yaml

from archgrad.run import config
from archgrad.storage.yaml_files import VALUES, parse

BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


def test_aliases_and_merged_mappings_mean_what_they_meant():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, z: [*a, *a]}\n"
    assert parse(text) == yaml.safe_load(text) and parse(text)["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nthreads: 1\nseed: 2\n", "'seed' occurs twice, in line 1 and in line 3"),
        ("search: {epochs: 1, epochs: 2}\n", "'epochs' occurs twice, in line 1 and in line 1"),
        (BOMB, f"it holds more than {VALUES:,} values"),
        ("a: &a [*a]\n", "the value in line 1 holds itself"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!int ''\n", "index out of range"),
        ("a: !!bool x\n", "x"),
        ("a: 2020-99-99\n", "month"),
        ("a: " + "9" * 10_000, "digits"),
        ("a: [1", "expected"),
    ],
)
def test_invalid_yaml_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": True}, "seed: true and false have no meaning for this option, not True"),
        ({"weights": {"lr": True}}, "weights.lr: true and false"),
        ({"search": {"batch": True}}, "search.batch: "),
        ({"method": "pdarts", "pdarts": {"keep": [True, 3]}}, "pdarts.keep: "),
        ({"retrain": {"epochs": True}}, "retrain.epochs: true and false"),
        ({"space": {"channels": True}}, "space.channels: true and false"),
        ({"data-x": 1, "data_x": 1}, "'data_x' is set twice"),
        (
            {"search": {"checkpoint-seconds": 1, "checkpoint_seconds": 2}},
            "'checkpoint_seconds' is set twice",
        ),
        ({"seed": 10**400}, "seed: this number is too large"),
        ({"threads": 1_000_000}, "threads: .*1024, not 1000000"),
        ({"data": {"workers": 10**6}}, "data.workers: "),
        ({"search": {"epochs": 10**11}}, "search.epochs: .*100000, not 100000000000"),
        ({"retrain": {"epochs": 10**11}}, "retrain.epochs: "),
        ({"space": {"channels": "x" * 10**6}}, "space.channels: "),
    ],
)
def test_values_of_a_wrong_yaml_type_are_refused(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        config.read(("", given))
    assert len(str(caught.value)) < 300


def test_booleans_are_accepted_where_a_setting_is_boolean():
    found = config.read(
        (
            "",
            {
                "deterministic": True,
                "data": {"augment": False, "flip": True},
                "weights": {"nesterov": True},
            },
        )
    )
    assert (
        found.deterministic
        and found.data.flip
        and not found.data.augment
        and found.weights["nesterov"] is True
    )


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "given.yaml"
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(
        ValueError, match=r"given\.yaml is not YAML: 'seed' occurs twice, in line 1 and in line 2"
    ):
        config.read_yaml(path)
    path.write_text("a: " + "x" * 10**6)
    with pytest.raises(ValueError, match=r"given\.yaml is too large"):
        config.read_yaml(path)
