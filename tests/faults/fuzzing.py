"""Wrong inputs drawn from the schemas: flags, YAML and JSON files that are nearly right, and genotypes as text."""

from __future__ import annotations

import copy
import json
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel

from archgrad.run import config

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, -0.5, 0.5, 1e-300, 1e308, float("nan"), float("inf"), -float("inf"), 10**6, 10**11, 2**63, 10**30,
    -(10**30),
    "", " ", "x", "a" * 5000, "tpu", "cpu", "é\u202e", "\x1b[2J", "nan", "auto", "none", "1", "-1", [], {}, [[]], [1, "x", None], ["none"],
    [True],
    {"": 1}, {"name": "darts"}, {"links": [], "concat": []}, [[0, 1, "none"]],
]  # fmt: skip
"""Put where another value is expected."""

NESTED = ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500]
JSON_TEXTS = [
    *NESTED, "", "null", "[]", "1", '"x"', "{}", "{", '{"genotype": ', "NaN", "9" * 5000, "\ufeff{}", "\x00", '{"genotype": {}}',
    '{"genotype": 1e999}',
    '{"genotype": ' + "9" * 5000 + "}", '{"genotype": null, "genotype": 3}',
]  # fmt: skip
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
YAML_TEXTS = [
    *NESTED, BOMB, "space: {primitives: &a [*a]}\n", "search: &a {epochs: *a}\n", "seed: 1\nseed: 2\n", "search: {epochs: 1, epochs: 2}\n",
    "data-x: 1\ndata_x: 2\n", "seed: true\n", "seed: 0x" + "f" * 10_000, "seed: " + "9" * 10_000, "seed: !!int ''\n", "seed: !!float x\n",
    "seed: !!bool x\n", "seed: !!timestamp x\n", "seed: !!binary '%'\n", "seed: !!python/object/apply:os.system [true]\n", "seed: 2020-99-99\n",
    "seed: 1:9:9:9\n", "seed: 1:" + "9:" * 200 + "9.5\n", "<<: 3\n", "<<: [3]\n", "? [a]\n: b\n", "? {a: b}\n: c\n", "--- a\n--- b\n",
    "%YAML 9.9\n---\na: 1\n",
    "\t", "\x00", "a: b: c", "- 1\n", "3", "''", "", "search: 3", "data: [[]]", "method: darts+" + "+".join(["random"] * 500), "method: [darts]",
    "space: {name: nowhere}", "space: {name: [1]}", "space: nowhere", "arms: 3", "arms: {a: 3}", "arms: {a: {method: 3}}",
    "arms: {a: {}}\nseeds: true\n",
    "arms: {a: {}}\nseeds: 100000000000\n", "arms: {a: {}}\nseeds: [[1]]\n", "arms: {'../x': {}}", "arms: {a: {method: darts}}\ncontrol: [1]\n",
    "arms: {a: {method: darts}}\nretrain_seeds: 100000000000\n", "search: {epochs: 100000000000}\n", "threads: 1000000\n", "- " * 5000,
]  # fmt: skip
"""Files that are no settings, each in its own way."""

GENOTYPES = [
    "DARTS_V2", "PCDARTS", "02012100", "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|",
    "mb4_k3|mb6_k5,skip_connect|mb3_k3",
    "Genotype(normal=[('sep_conv_3x3', 1), ('none', 0)], normal_concat=range(2, 3), reduce=[('none', 0), ('none', 1)], reduce_concat=[2])",
    '{"cell": {"links": [[0, 1, "nor_conv_3x3"]], "concat": [1]}}',
]  # fmt: skip
GENOTYPE_TEXTS = [
    *NESTED, "", "(", "|", "{", "|~|", "||+||", "range('a')", "Genotype(normal=range('a'))", "Genotype(normal=range(1, 2, 0))", "Genotype(**x)",
    "Genotype(normal=[], normal_concat=range(10**9))", "Genotype(normal=range(0, 10000000000000))", "Genotype(normal=range(1.5))", "{[1]: 2}",
    "{{}: 1}", "(" + "-" * 50_000 + "1)", "(" + "not " * 50_000 + "1)", "(a" + ".a" * 50_000 + ")", "(1" + "+1" * 50_000 + ")", "x = (1,\n2\n",
    "('\\d', 1)", "(1if x else 2)", "Genotype(normal='x' * 9)", "Genotype(a=[" + "('x', 1)," * 5000 + "], a_concat=[2])", "a" * 300_000,
    "|" + "none~0|" * 50_000, "|none~99|", "mb4_k3|" * 10_000 + "mb4_k3", "0" * 100_000, "(\x00)", "(\udcff)", "\udcff", "\x1b[2J", "../nowhere",
    "a/b",
    "nowhere.json", "f(" * 150, "Genotype(normal=[('sep_conv_3x3', True)], normal_concat=[])", '{"a": {"links": 3, "concat": [1]}}',
    '{"a": {"links": [], "concat": []}}', '{"cell": {"links": [], "concat": [1]}}', '{"normal": {}, "reduce": {}}', "lambda: (1)", "(await x)",
]  # fmt: skip

TOKENS = [
    "-1", "0", "1", "2", "3", "0.5", "1.5", "1e-300", "1e300", "-1e-9", "nan", "inf", "-inf", "1000000", "100000000000", "9223372036854775808",
    "9" * 400,
    "9" * 5000, "true", "no", "", " ", "é", "\udcff", "a" * 5000, "\x1b[2J", "[[[[", "../x", "a,b", "auto", "cpu", "tpu", "none", "macs=1e400",
    "0x10",
    "params=60%", "latency=15ms", "macs=1", "=", "digits", "skip_connect", "1,2,3",
]  # fmt: skip


class Case(NamedTuple):
    """A command line, in which ``@NAME`` stands for a path, and the files that are put there before: name -> content."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]

    def __repr__(self) -> str:
        return f"{' '.join(self.arguments)[:200]!r} { ({name: content[:2000] for name, content in self.files.items()}) }"


def flags() -> list[str]:
    """Return the flags of all settings of a search."""
    tops = list(config.scalars().model_fields)
    own = [
        f"--{section}.{name}"
        for section, model in config.sections().items()
        for name in names(model)
    ]
    return [*(f"--{name}" for name in tops if name != "out"), *own]


def names(model: type[BaseModel]) -> list[str]:
    return [name.replace("_", "-") for name in model.model_fields]


FLAGS = flags()
COMMANDS = [
    ("search", "--dry-run"), ("search", "--data", "digits", "--search.limit", "20", "--space.cells", "1"),
    ("search", "--data", "nowhere/at/all"),
    ("search", "--data", "digits", "--search.limit", "20", "--space", "darts", "--space.channels", "2"),
    ("search", "--data", "digits", "--search.limit", "20", "--space", "nasbenchmacro", "--space.channels", "2"),
    ("compare", "--methods", "darts", "--seeds", "1", "--out", "@new", "--dry-run"), ("retrain", "DARTS_V2", "--data", "nowhere/at/all"),
    ("estimate", "--data", "nowhere/at/all"),
]  # fmt: skip
OTHERS = [
    (("count", "DARTS_V2"), ("--channels", "--cells", "--classes", "--size", "--space")),
    (("show", "02012100"), ("--channels", "--classes", "--size", "--space")),
    (("query", "nasbench201", "@run"), ("--device",)),
    (("latency", "--space", "nowhere"), ("--size", "--channels", "--cells", "--batch", "--threads", "--nets", "--device")),
    (("compare", "--methods", "darts", "--out", "@new", "--dry-run"), ("--seeds", "--jobs", "--retrain-seeds", "--control")),
    (("predict", "@run", "@image.png"), ("--top", "--device")),
    (("evaluate", "@run", "--data", "@labelled"), ("--split", "--device", "--image-column")),
    (("derive", "@run"), ("--budget", "--latency")),
]  # fmt: skip


@st.composite
def of_flags(draw: Any) -> Case:
    """A command with one to three flags and values that are seldom right."""
    if draw(st.integers(0, 2)):  # the parser of the long commands takes a third of a second
        command, known = draw(st.sampled_from(OTHERS))
    else:
        command, known = draw(st.sampled_from(COMMANDS)), FLAGS
    said = [
        part
        for _ in range(draw(st.integers(1, 3)))
        for part in (draw(st.sampled_from(known)), draw(st.sampled_from(TOKENS)))
    ]
    return Case((*command, *said), {})


@st.composite
def mutated(draw: Any, whole: Any) -> Any:
    """JSON-able content with one to three changes, each at a place of its own."""
    whole = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        inside = whole
        while draw(st.integers(0, 4)) and (
            nested := [one for one in children(inside) if isinstance(one, dict | list) and one]
        ):
            inside = draw(st.sampled_from(nested))
        if not inside or not isinstance(inside, dict | list):
            return whole
        place = draw(
            st.sampled_from(list(inside) if isinstance(inside, dict) else list(range(len(inside))))
        )
        how = draw(st.sampled_from(("value", "value", "value", "missing", "more")))
        if how == "value":
            inside[place] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif how == "missing":
            del inside[place]
        elif isinstance(inside, dict):
            inside[draw(st.sampled_from(["", "x", "a" * 5000, "\x1b", "name", "genotype"]))] = (
                copy.deepcopy(inside[place])
            )
        else:
            inside.append(copy.deepcopy(inside[place]))
    return whole


def children(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


@st.composite
def bytes_of(draw: Any, whole: Any, texts: list[str], dump: Any) -> bytes:
    """A file that is nearly ``whole``, or one of ``texts``, or is cut short, or is no text."""
    how = draw(
        st.sampled_from(
            ("mutated", "mutated", "mutated", "mutated", "mutated", "text", "text", "cut", "bytes")
        )
    )
    if how == "text":
        return draw(st.sampled_from(texts)).encode()
    if how == "mutated":
        return dump(draw(mutated(whole))).encode()
    content = dump(whole).encode()
    place = draw(st.integers(0, len(content)))
    return content[:place] + (b"" if how == "cut" else b"\xff\x00" + content[place:])


SETTINGS: dict[str, Any] = {
    "method": "darts", "seed": 1, "device": "cpu", "threads": 1, "search": {"epochs": 2, "batch": 20, "limit": 20},
    "data": {"path": "digits", "size": 8, "share": 0.5, "cutout": 2}, "space": {"name": "nasbench201", "channels": 2, "cells": 1},
    "weights": {"lr": 0.1, "momentum": 0.9}, "alphas": {"lr": 0.1}, "budget": {"targets": ["params=60%"], "rate": 0.1}, "retrain": {"epochs": 1,
    "preset": "quick"},
    "stop": {"after": 0.5, "stable": 2}, "diagnostics": {"gap_images": 20, "front": False}, "darts": {"order": "alpha_first"},
}  # fmt: skip
STUDY: dict[str, Any] = {
    **{name: value for name, value in SETTINGS.items() if name not in ("seed", "method", "darts", "device")},
    "arms": {"darts": {"method": "darts", "darts": {"order": "weight_first"}}, "random": {"method": "random", "random": {"draws": 2}}},
    "seeds": [1, 2], "control": "darts", "equal": True, "controls": True, "retrain_seeds": 1,
}  # fmt: skip


def dumped(whole: Any) -> str:
    return str(yaml.safe_dump(whole, sort_keys=False))


def of_settings() -> Any:
    """A file of settings, and a command that reads it."""
    search = st.builds(lambda command, content: Case(command, {"given.yaml": content}), st.sampled_from([
        ("search", "--config", "@given.yaml", "--dry-run"), ("search", "--config", "@given.yaml"), ("retrain", "DARTS_V2", "--config",
        "@given.yaml"),
        ("latency", "--config", "@given.yaml", "--nets", "1"), ("estimate", "--config", "@given.yaml", "--data", "nowhere/at/all"),
    ]), bytes_of(SETTINGS, YAML_TEXTS, dumped))  # fmt: skip
    study = st.builds(lambda command, content: Case(command, {"given.yaml": content, "study/study.yaml": content}), st.sampled_from([
        ("compare", "--config", "@given.yaml", "--out", "@new", "--dry-run"), ("compare", "--out", "@study", "--dry-run"),
    ]), bytes_of(STUDY, YAML_TEXTS, dumped))  # fmt: skip
    run = st.builds(
        lambda content: Case(("show", "@run"), {"run/config.yaml": content}),
        bytes_of(SETTINGS, YAML_TEXTS, dumped),
    )
    return st.sampled_from([search, study, *[run] * 4]).flatmap(lambda chosen: chosen)


@st.composite
def of_genotypes(draw: Any) -> Case:
    """A genotype as text or in a file."""
    if draw(st.booleans()):
        text = draw(st.sampled_from(GENOTYPE_TEXTS))
    else:
        whole = draw(st.sampled_from(GENOTYPES))
        begin = draw(st.integers(0, len(whole)))
        put = draw(
            st.sampled_from(
                [
                    "",
                    "(",
                    "[",
                    "'",
                    "9" * 30,
                    "-",
                    "None",
                    "True",
                    "range(9**9)",
                    "é",
                    ",",
                    "|",
                    "~",
                    '"',
                    "{",
                    "1e9",
                    "skip_connect",
                ]
            )
        )
        text = whole[:begin] + put + whole[begin + draw(st.integers(0, 12)) :]
    command = draw(
        st.sampled_from(
            [
                ("show",),
                ("count",),
                ("query", "nasbench201"),
                ("query", "nasbenchmacro"),
                ("retrain",),
            ]
        )
    )
    if draw(st.booleans()):
        return Case(
            (*command, "@genotype.txt"), {"genotype.txt": text.encode("utf-8", "surrogateescape")}
        )
    return Case((*command, "--", text), {})


FILES: dict[str, list[tuple[str, ...]]] = {
    "run/genotype.json": [("show", "@run"), ("count", "@run"), ("query", "nasbench201", "@run"), ("derive", "@run", "--budget", "params=60%"),
                          ("resume", "@run"), ("finish", "@run"), ("retrain", "@run", "--data", "nowhere/at/all")],
    "run/data.json": [("show", "@run"), ("count", "@run"), ("derive", "@run", "--budget", "params=60%")],
    "run/retrain/network.json": [("predict", "@run", "@image.png"), ("evaluate", "@run", "--data", "@labelled"), ("show", "@run"), ("resume",
    "@run/retrain")],
    "derived.json": [("show", "@derived.json"), ("count", "@derived.json"), ("query", "nasbench201", "@derived.json")],
    "latency.json": [("search", "--config", "@latency.yaml", "--budget", "latency=99s", "--budget.latency", "@latency.json"),
                     ("derive", "@run", "--budget", "latency=99s", "--latency", "@latency.json")],
    "study/summaries/darts-seed1.json": [("compare", "--out", "@study", "--print-commands"), ("compare", "--out", "@study", "--dry-run")],
    "study/compare.json": [("compare", "--out", "@study", "--print-commands")],
}  # fmt: skip
"""A file of ours -> commands that read it."""


def of_files(known: dict[str, str]) -> Any:
    """One of our files, nearly as it was written (``known``: name -> its text), and a command that reads it."""
    made = [
        st.builds(lambda command, content, name=name: Case(command, {name: content}), st.sampled_from(commands),
        bytes_of(json.loads(known[name]), JSON_TEXTS, json.dumps))
        for name, commands in FILES.items()
    ]  # fmt: skip
    short = made[: list(FILES).index("latency.json")]
    return st.sampled_from([*short * 5, *made]).flatmap(
        lambda chosen: chosen
    )  # the others take a long command


def cases(known: dict[str, str]) -> Any:
    """Return a strategy that draws from all strategies above."""
    return st.sampled_from(
        (of_flags(), of_settings(), *[of_genotypes()] * 3, *[of_files(known)] * 3)
    ).flatmap(lambda chosen: chosen)
