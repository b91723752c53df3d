"""The layout shows the data flow: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "archgrad"
FILES = sorted(SOURCE.rglob("*.py"))

# What a file (or folder) may import of archgrad, besides itself. The first match counts.
VALUES = {"bounds", "arch", "chain", "cost", "devices", "schedules", "seeds", "errors", "options", "origin", "plugins", "published", "notation"}
PIECES = {"relax", "terms", "select", "limits", "perturb", "memory", "gradients", "hypergradient", "search_space"}
METHOD = {"checks", "room", "finite", "patch", "state", "stepper", "search_method", "budget", "rate"}
MAY: dict[str, set[str]] = {
    "seeds": set(),
    "interrupts": set(),
    "duration": set(),
    "origin": set(),
    "errors": set(),
    "plugins": {"errors", "terminal"},
    "earlier": set(),
    "alpha_record": {"errors", "files", "folder", "places", "records", "retraining"},
    "terminal": set(),
    "devices": {"bounds", "errors"},
    "bounds": {"errors"},
    "yaml_files": set(),
    "schemas": {"arch", "bounds", "errors", "files"},
    "files": set(),
    "seals": {"files"},
    "saved": {"bounds", "errors"},
    "records": {"errors", "files"},
    "options": {"bounds", "errors"},
    "arch": {"errors", "seeds", "notation", "report"},
    "chain": {"arch"},
    "cost": {"arch", "errors"},
    "field_types": {"schedules"},
    "catalogue": {"arch", "bounds", "errors", "options", "field_types", "plugins", "published", "spaces", "data_files"},
    "places": {"errors"},
    "formats": set(),
    "spellings": {"errors"},
    "processors": set(),
    "published": {"arch", "errors", "notation", "data_files"},
    "notation": {"arch", "benchmarks", "chain", "errors", "published", "spellings"},
    "schedules": {"arch", "errors"},
    "search_space": {"arch", "errors", "options"},
    **{piece: VALUES | PIECES for piece in PIECES - {"search_space"}},
    **{part: VALUES | PIECES | METHOD for part in METHOD},
    "diagnostics": VALUES | {"gradients", "terms"},
    "methods": VALUES | PIECES | METHOD | {"diagnostics", "duration"},
    "spaces": VALUES | {"room", "search_space", "data_files"},
    "latency": VALUES | {"files", "room", "schemas", "search_space", "select", "spaces", "data"},
    "benchmarks": VALUES | {"data_files"},
    "report": VALUES | {"benchmarks", "files"},
    "loop": VALUES | METHOD | {"diagnostics", "search_space", "progress"},
    "probes": VALUES | METHOD | {"loop", "diagnostics", "select", "duration"},
    "stopping": VALUES | METHOD | {"loop", "diagnostics"},
    "judgement": VALUES | METHOD | {"loop", "memory"},
    "checkpoint": VALUES | METHOD | {"files", "saved", "seals"},
    "observers": VALUES | METHOD | {"loop", "checkpoint", "files", "records", "interrupts"},
    "progress": VALUES | METHOD | {"loop", "probes", "duration", "terminal"},
    "data": {"arch", "seeds", "errors", "files", "formats", "places", "room", "terminal"},
}
OPEN = {
    "__init__", "__main__", "run", "watching", "estimating", "costing", "front", "compare", "config", "cli", "retraining", "folder",
    "data_files", "results", "finished", "repairing",
}  # fmt: skip


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, checking: bool = False) -> set[str]:
    """First parts below archgrad that a file imports; those for type checking only when asked."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" and not checking
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("archgrad.")}
        if isinstance(node, ast.ImportFrom) and node.module == "archgrad":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("archgrad."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_data_flow(path):
    if part(path) in OPEN:
        return
    assert part(path) in MAY, "a new part needs its place in the layout"
    assert imports(path) - {part(path), "__version__"} <= MAY[part(path)]


def test_methods_and_spaces_never_meet():
    for path in FILES:
        if part(path) in ("methods", "spaces"):
            other = {"methods": "spaces", "spaces": "methods"}[part(path)]
            assert other not in imports(path, checking=True), path


def test_the_loop_knows_no_method_and_no_space():
    assert not imports(SOURCE / "loop.py") & {"methods", "spaces"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_passes_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_file_asks_a_method_or_a_space_what_it_is():
    """``isinstance`` and ``hasattr`` where methods, spaces, patches or states are handled say that a type is wrong."""
    kinds = {"Method", "Space", "Patch", "State", "Supernet", "Stepper", "Memory", "Bilevel", "Darts", "NASBench201"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert not asked & kinds, f"{path}:{node.lineno}"
