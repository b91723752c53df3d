"""Nothing that is read can run code, and every file of ours is written in one place: held by the syntax of the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from archgrad.storage import yaml_files

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "archgrad"
CODE = sorted([*SOURCE.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
WRITERS = {
    "storage/files.py",  # the one place
    "cli/tabulate.py",  # the package's own table, by its developers
    "cost/process_memory.py",  # /proc/self/clear_refs, which is no file
}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNS = {"eval", "exec", "compile", "__import__"}
UNSAFE_YAML = {
    "load",
    "load_all",
    "unsafe_load",
    "unsafe_load_all",
    "full_load",
    "full_load_all",
    "UnsafeLoader",
    "FullLoader",
    "Loader",
}


def name(node: ast.expr) -> str:
    """``torch.load`` of the callee of a call, as it is written."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def said(call: ast.Call, option: str) -> object:
    """The value of an option of a call; None where it is not said, or is no constant."""
    found = next((each.value for each in call.keywords if each.arg == option), None)
    return found.value if isinstance(found, ast.Constant) else None


def dangers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that may run what they read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            yield from (
                (node.lineno, module) for module in modules if module.split(".")[0] in PICKLES
            )
            if isinstance(node, ast.ImportFrom) and node.module == "yaml":
                yield from (
                    (node.lineno, alias.name) for alias in node.names if alias.name in UNSAFE_YAML
                )
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "numpy"):
                yield from (
                    (node.lineno, alias.name) for alias in node.names if alias.name == "load"
                )
        if (
            isinstance(node, ast.Attribute)
            and name(node.value) == "yaml"
            and node.attr in UNSAFE_YAML
        ):
            yield node.lineno, f"yaml.{node.attr}"
        if isinstance(node, ast.Call):
            callee = name(node.func)
            if callee in RUNS or callee in {f"builtins.{one}" for one in RUNS}:
                yield node.lineno, callee
            if callee == "torch.load" and said(node, "weights_only") is not True:
                yield node.lineno, "torch.load without weights_only=True"
            if callee in ("os.system", "os.popen"):
                yield node.lineno, callee
            asked = [each for each in node.keywords if each.arg in ("allow_pickle", "shell")]
            yield from (
                (node.lineno, f"perhaps {each.arg}")
                for each in asked
                if getattr(each.value, "value", True) is not False
            )


def writes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that write a file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        callee = name(node.func) or getattr(node.func, "attr", "")
        last = callee.rsplit(".", 1)[-1]
        if last in ("write_text", "write_bytes"):
            yield node.lineno, callee
        if last in ("open", "fdopen") and callee not in ("os.open", "Image.open"):
            modes = [
                part.value
                for part in [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
                if isinstance(part, ast.Constant)
            ]
            writing = [
                mode
                for mode in modes
                if isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+")
            ]
            yield from ((node.lineno, callee) for _ in writing)
        if callee == "os.open" and any(
            flag in ast.unparse(node) for flag in ("O_CREAT", "O_TRUNC", "O_APPEND")
        ):
            yield node.lineno, callee


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run(path):
    assert list(dangers(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_files_are_written_in_one_place(path):
    found = list(writes(ast.parse(path.read_text())))
    assert not found or str(path.relative_to(SOURCE)) in WRITERS, found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=asked)",
        "from torch import load",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "class Own(yaml.UnsafeLoader): ...",
        "from yaml import FullLoader",
        "eval(text)",
        "exec(text)",
        "builtins.eval(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=asked)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=asked)",
        "os.system(text)",
    ],
)
def test_each_danger_is_seen(text):
    assert len(list(dangers(ast.parse(text)))) == 1


@pytest.mark.parametrize(
    "text", ["open(path, 'w')", "path.open('ab')", "path.open(mode='r+')", "path.write_text(text)", "a.b().write_bytes(x)", "os.fdopen(f, 'wb')",
             "gzip.open(path, 'wt')", "os.open(path, os.O_WRONLY | os.O_CREAT)"],
)  # fmt: skip
def test_each_way_to_write_is_seen(text):
    assert len(list(writes(ast.parse(text)))) == 1


SAFE = [
    "network.eval()",
    "torch.load(path, weights_only=True)",
    "yaml.safe_dump(x)",
    "np.load(path)",
    "path.open('rb')",
    "open(path)",
]


@pytest.mark.parametrize(
    "text", [*SAFE, "Image.open(path)", "torch.compile(net)", "subprocess.run(all, shell=False)"]
)
def test_what_is_safe_passes(text):
    assert not [*dangers(ast.parse(text)), *writes(ast.parse(text))]


def test_yaml_makes_plain_values_alone():
    assert issubclass(yaml_files.Loader, yaml.SafeLoader)
    assert yaml_files.Loader.yaml_constructors == yaml.SafeLoader.yaml_constructors
    for text in (
        "!!python/object/apply:os.system [true]",
        "!!python/name:os.system",
        "!!python/tuple [1]",
    ):
        with pytest.raises(ValueError, match="could not determine a constructor"):
            yaml_files.parse(text)
