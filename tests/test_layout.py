"""The layout: which package may import which, how long a file may be, and what no file may ask."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import io
import tokenize
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "archgrad"
FILES = sorted(SOURCE.rglob("*.py"))

# From bottom to top: a package, or a file beside the packages, imports only of what stands in an earlier row.
FLOORS = (
    {"errors", "seeds", "terminal", "data_files", "extras", "__version__"},
    {"bounds", "plugins", "arguments"},
    {"option_types"},
    {"options", "devices", "storage"},
    {"arch"},
    {"cost"},
    {"spaces", "data", "components", "tabular", "report"},
    {"diagnostics", "latency", "modules"},
    {"searching"},
    {"methods", "observers"},
    {"retraining", "user_loop"},
    {"run"},
    {"compare"},
    {"cli"},
    {"__main__", "__init__"},
)
FLOOR = {part: number for number, row in enumerate(FLOORS) for part in row}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    return ".".join(("archgrad", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


MODULES = {module(path): path for path in FILES}


def imported(path: Path, *, typing: bool = True) -> set[str]:
    """Return the modules of archgrad that a file imports anywhere; ``typing``: those for a type checker only too."""
    tree = ast.parse(path.read_text())
    branches = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    aside = set() if typing else {id(inner) for branch in branches for inner in ast.walk(branch)}
    found = set()
    for node in (node for node in ast.walk(tree) if id(node) not in aside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "archgrad"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "archgrad":
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in inner}
    return found


def test_a_package_imports_only_what_stands_below_it():
    wrong = []
    for path in FILES:
        assert part(path) in FLOOR, f"{path}: a new package needs its floor"
        for name in imported(path):
            other = [*name.split("."), "__version__"][1]
            if other != part(path) and FLOOR[other] >= FLOOR[part(path)]:
                wrong.append(f"{module(path)} imports {name}")
    assert not wrong


def test_no_circle_among_files():
    graph = {
        name: {
            other
            for other in imported(path, typing=False)
            if MODULES.get(other, path).name != "__init__.py"
        }
        for name, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_methods_and_spaces_never_import_each_other():
    """A method is written for any space: only the table of methods takes a space by its name."""
    for path in FILES:
        if part(path) == "methods" and path.name != "__init__.py":
            assert not {name for name in imported(path) if name.startswith("archgrad.spaces")}, path


def test_the_loop_knows_no_method_and_no_space():
    names = imported(SOURCE / "searching" / "loop.py")
    assert not {name for name in names if name.startswith(("archgrad.methods", "archgrad.spaces"))}


def code_lines(path: Path) -> int:
    """Return how many lines hold code: neither blank, nor a comment, nor part of a docstring."""
    text = path.read_text()
    docs = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            docs |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    quiet = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def test_no_file_passes_400_lines_of_code():
    assert {
        str(path.relative_to(SOURCE)): lines for path in FILES if (lines := code_lines(path)) > 400
    } == {}


def test_no_file_asks_a_method_or_a_space_what_it_is():
    """``isinstance`` where methods, spaces, patches or states are handled says that a type is wrong."""
    kinds = {
        "Method",
        "Space",
        "Patch",
        "State",
        "Supernet",
        "Stepper",
        "Memory",
        "Bilevel",
        "Darts",
        "NASBench201",
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                named = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert not named & kinds, f"{path}:{node.lineno}"


def test_each_anchor_of_the_mutants_is_defined_in_one_module():
    path = SOURCE.parent.parent / "benchmarks" / "mutation.py"
    spec = importlib.util.spec_from_file_location("mutation", path)
    assert spec is not None and spec.loader is not None
    mutation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutation)
    assert all(mutation.module_of(anchor, SOURCE).is_file() for anchor in mutation.ANCHORS)
