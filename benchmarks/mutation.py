"""Mutation test of three modules: small faults are put into the code, and a test must notice each.

    python benchmarks/mutation.py reach reach.json [PYTEST ARGUMENT...]
    python benchmarks/mutation.py try reach.json before.json
    python benchmarks/mutation.py try reach.json after.json --like before.json

`reach` runs tests once and notes the lines that each of them reaches, and its CPU time. `try` makes
a fixed sample of mutants, and runs for each mutant the tests that reach its line. With ``--like``,
the mutants are those of another result, and the exit code is 1 if one that was caught there
survives here.

A module is found by the name of a class or function in it (``--anchors``), so that a moved file
stays the same module. A mutant is named by anchor, function, number of the node and kind of fault.
The faults are a turned comparison or condition, `and` for `or`, `+` for `-`, a number plus 1,
`return None`, and a statement that is left out. Of a test with many cases, the cheapest case comes
first, then the second of each test, until ``--limit`` CPU seconds are full. The libraries mutmut
and cosmic-ray choose no tests by the lines that these reach, and do not say which test noticed.
The code is mutated in a copy, so that the working tree stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import pkgutil
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ANCHORS = ["Bilevel", "Limit", "pack"]  # a step, limits on cost, checkpoints
COMPARED = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COUNTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


def module_of(anchor: str, source: Path) -> Path:
    """The file under ``source`` that defines a class or function of this name at its top level."""
    found = [
        path
        for path in sorted(source.rglob("*.py"))
        if any(getattr(node, "name", None) == anchor for node in ast.parse(path.read_text()).body)
    ]
    if not found:
        raise SystemExit(
            f"no module under {source} defines {anchor!r} at its top level: it was renamed or "
            "removed, so give another anchor of that module"
        )
    if len(found) > 1:
        raise SystemExit(
            f"{anchor!r} is defined in {len(found)} modules: name something that is defined in one"
        )
    return found[0]


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Top-level functions and methods with their dotted names; a nested function belongs to the one around it."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from (
                (f"{node.name}.{inner.name}", inner)
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            )


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function's body in a fixed order, without annotations, decorators and the text of f-strings."""
    skipped = {"annotation", "returns", "decorator_list"} | (
        {"args"} if isinstance(node, ast.FunctionDef) else set()
    )
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if (
                isinstance(child, ast.AST)
                and field not in skipped
                and not isinstance(child, ast.JoinedStr)
            ):
                yield child
                yield from inside(child)


def faults(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], ast.AST]]]:
    """The faults that one node can have: a name, and a function that changes such a node in place and gives it (or another) back."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield (
            "turned comparison",
            lambda n: setattr(n, "ops", [COMPARED[type(n.ops[0])](), *n.ops[1:]]) or n,
        )
    if isinstance(node, ast.BoolOp):
        yield (
            "and for or",
            lambda n: setattr(n, "op", ast.Or() if isinstance(n.op, ast.And) else ast.And()) or n,
        )
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "turned condition", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test)) or n
    if isinstance(node, ast.BinOp) and type(node.op) in COUNTED:
        yield "other arithmetic", lambda n: setattr(n, "op", COUNTED[type(n.op)]()) or n
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "number plus 1", lambda n: setattr(n, "value", n.value + 1) or n
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "turned boolean", lambda n: setattr(n, "value", not n.value) or n
    if (
        isinstance(node, ast.Return)
        and node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value is None)
    ):
        yield "return None", lambda n: setattr(n, "value", ast.Constant(None)) or n
    plain = isinstance(node, ast.Assign) and isinstance(
        node.targets[0], ast.Name | ast.Tuple
    )  # without it, a name would be missing
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Yield)
    if (
        isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Raise)
        and not plain
        and not text
    ):
        yield "statement left out", lambda n: ast.Pass()


def mutants(source: str) -> dict[str, tuple[str, int]]:
    """Name -> the module with that fault, and the line it is in."""
    found = {}
    tree = ast.parse(source)
    for (name, function), place in zip(functions(tree), itertools.count()):
        line = function.lineno
        for number, node in enumerate(inside(function)):
            line = (
                node.lineno if isinstance(node, ast.stmt) else line
            )  # a test reaches a statement, which may have several lines
            for kind, change in faults(node):
                fresh = copy.deepcopy(tree)
                _, twin = list(functions(fresh))[place]
                old = list(inside(twin))[number]
                _put(twin, old, change(old))
                found[f"{name}/{number}/{kind}"] = (
                    ast.unparse(ast.fix_missing_locations(fresh)),
                    line,
                )
    return found


def _put(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Puts ``new`` where ``old`` stands in the tree."""
    for node in [tree, *inside(tree)]:
        for field, value in ast.iter_fields(node):
            if value is old:
                setattr(node, field, new)
            elif isinstance(value, list):
                setattr(node, field, [new if one is old else one for one in value])


def instrumented(source: str, anchor: str) -> str:
    """The module, noting in `builtins.reached` the line of each statement of a function before it runs."""

    class Notes(ast.NodeTransformer):
        def visit_FunctionDef(self, function: ast.FunctionDef) -> ast.FunctionDef:
            for node in [function, *ast.walk(function)]:
                for field in ("body", "orelse", "finalbody"):
                    value = getattr(node, field, None)
                    if isinstance(value, list) and not getattr(node, f"noted_{field}", False):
                        setattr(node, f"noted_{field}", True)
                        setattr(
                            node, field, [line for one in value for line in (*self.note(one), one)]
                        )
            return function

        def note(self, statement: ast.stmt) -> list[ast.stmt]:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                return []  # a docstring stays the first line
            return ast.parse(
                f"getattr(__import__('builtins'), 'reached', set()).add(({anchor!r}, {statement.lineno}))"
            ).body

    tree = ast.parse(source)
    return ast.unparse(ast.fix_missing_locations(Notes().visit(tree)))


class Reach:
    """A plugin of pytest that notes, for every test, its CPU seconds (children included), its outcome, and the lines it reached."""

    def __init__(self, path: Path) -> None:
        self.path, self.tests = path, {}  # type: ignore[var-annotated]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        import builtins

        builtins.reached.clear()  # type: ignore[attr-defined]
        before = sum(os.times()[:4])
        yield
        lines = sorted(builtins.reached)  # type: ignore[attr-defined]
        self.tests[item.nodeid] = {"cpu": round(sum(os.times()[:4]) - before, 3), "lines": lines}
        if len(self.tests) % 50 == 0:
            self.pytest_sessionfinish()

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.tests))


def copied(change: dict[Path, str]) -> Path:
    """A folder with a copy of the sources, some files with other text."""
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in change.items():
        (folder / path.relative_to(ROOT)).write_text(text)
    return folder


def use(folder: Path) -> None:
    """This process, and those it starts, import the package from there."""
    source = str(folder / "src")
    os.environ["PYTHONPATH"] = source
    sys.path[:] = [source, *(entry for entry in sys.path if not entry.endswith("/src"))]
    for name in [name for name in sys.modules if name.split(".")[0] == "archgrad"]:
        del sys.modules[name]
    os.chdir(ROOT)


def reach(out: Path, anchors: list[str], arguments: list[str]) -> int:
    import builtins

    builtins.reached = set()  # type: ignore[attr-defined]
    modules = {anchor: module_of(anchor, ROOT / "src") for anchor in anchors}
    folder = copied(
        {path: instrumented(path.read_text(), anchor) for anchor, path in modules.items()}
    )
    use(folder)
    try:
        return int(
            pytest.main(
                ["-p", "no:xdist", "-p", "no:cacheprovider", *arguments], plugins=[Reach(out)]
            )
        )
    finally:
        shutil.rmtree(folder)


def queue(tests: dict[str, Any], anchor: str, line: int, limit: float) -> list[str]:
    """The tests that reach a line: the cheapest case of each test, the cheapest test first, then the second of each, up to the limit."""
    cases: dict[str, list[tuple[float, str]]] = {}
    for name, test in tests.items():
        if [anchor, line] in test["lines"]:
            cases.setdefault(name.split("[")[0], []).append((test["cpu"], name))
    rounds = itertools.zip_longest(*(sorted(each) for each in cases.values()))
    order = [one for each in rounds for one in sorted(filter(None, each))]
    spent = itertools.accumulate(cpu for cpu, _ in order)
    return [name for (_, name), total in zip(order, spent) if total <= limit]


class Noticed:
    """A plugin of pytest that keeps the name of the first test that failed."""

    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.name is None:
            self.name = f"collection of {report.nodeid}"


def attempt(folder: Path, tests: list[str], limit: float, answer: Any) -> None:
    """In a forked process: the name of the test that notices the fault, or None.

    A process that needs ten times the CPU seconds of its tests is killed: the fault has no end.
    """
    most = 30 + int(10 * limit + time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    use(folder)
    noticed = Noticed()
    code = pytest.main(
        ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "", *tests],
        plugins=[noticed],
    )
    answer.send(noticed.name or (None if code == 0 else f"exit code {int(code)}"))


def sample(anchors: list[str], number: int, seed: int) -> dict[str, tuple[str, Path, str, int]]:
    """Mutants drawn by a hash of their names, the same number of each module."""
    drawn = {}
    for anchor in anchors:
        path = module_of(anchor, ROOT / "src")
        all_ = mutants(path.read_text())
        order = sorted(
            all_, key=lambda name: hashlib.sha256(f"{seed} {anchor} {name}".encode()).hexdigest()
        )
        drawn |= {
            f"{anchor}:{name}": (anchor, path, *all_[name])
            for name in (order if number < 0 else order[: number // len(anchors)])
        }
    return drawn


def trial(
    tests: dict[str, Any], chosen: dict[str, tuple[str, Path, str, int]], limit: float, out: Path
) -> dict[str, Any]:
    import archgrad

    for module in pkgutil.walk_packages(
        archgrad.__path__, "archgrad."
    ):  # what they import is there in each fork
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    results = {}
    for name, (anchor, path, text, line) in chosen.items():
        run = queue(tests, anchor, line, limit)
        folder = copied({path: text})
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=attempt, args=(folder, run, limit, there)
        )
        if run:
            process.start()
            there.close()
            try:
                noticed = here.recv()
            except EOFError:
                noticed = "no end"
            process.join()
        else:
            noticed = None
        shutil.rmtree(folder)
        results[name] = {"line": line, "tests": len(run), "noticed": noticed}
        print(
            f"{'caught  ' if noticed else 'SURVIVED'} {name} (line {line}, {len(run)} tests): {noticed}",
            flush=True,
        )
        out.write_text(json.dumps(results, indent=1))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["reach", "try"])
    parser.add_argument("reach", type=Path)
    parser.add_argument("--anchors", nargs="+", default=ANCHORS)
    parser.add_argument("--mutants", type=int, default=42)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--limit", type=float, default=30.0, help="CPU seconds of tests for one mutant"
    )
    parser.add_argument(
        "--like", type=Path, help="results of another suite, whose mutants are tried"
    )
    options, rest = parser.parse_known_args()
    for anchor in options.anchors:
        module_of(anchor, ROOT / "src")  # an anchor that does not exist ends the script here
    if options.what == "reach":
        return reach(options.reach.absolute(), options.anchors, rest)
    out = Path(rest[0]).absolute()
    chosen = sample(options.anchors, -1 if options.like else options.mutants, options.seed)
    before = json.loads(options.like.read_text()) if options.like else {}
    if gone := before.keys() - chosen.keys():
        print(f"not there any more: {', '.join(sorted(gone))}")
    chosen = {name: chosen[name] for name in before if name in chosen} or chosen
    results = trial(json.loads(options.reach.read_text()), chosen, options.limit, out)
    print(f"{sum(r['noticed'] is not None for r in results.values())} of {len(results)} caught")
    missed = [
        name
        for name, r in results.items()
        if not r["noticed"] and before.get(name, {}).get("noticed")
    ]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
