"""Run every command of README and of the pages in docs once, and print its time and result.

    python benchmarks/tour.py                        # all pages but docs/results.md and docs/studies
    python benchmarks/tour.py README.md docs/tutorial.md

The commands of a page run in order, in one new folder, which has the files that they name:
`recipes` and `benchmarks` of this checkout, `photos` with drawn images of four classes, `other`
with the same classes, `more` and `folder` without classes, and `photo.jpg`. It leaves out `make`,
dry runs, and commands with hours or days in their comment. A search with the comment `Ctrl-C after
epoch 12` is interrupted there. The number of threads is a user's default.

Columns: CPU seconds in user mode, wall seconds, exit code, and the judgement of each search that
the command finished.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
BY_HAND = [
    path
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if path.parent.name != "studies" and path.name != "results.md"
]
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in BY_HAND)]
LONG = re.compile(r"#.*\b(hours?|days?)\b")
STOPPED = re.compile(r"#.*\bCtrl-C after epoch (\d+)\b")
SHAPES = ("circle", "cross", "square", "triangle")


class Typed(NamedTuple):
    """A command, its end, and all searches that it finished."""

    line: str
    cpu: float  # seconds in user mode
    seconds: float
    code: int
    output: str
    judgements: dict[str, Any]  # run folder -> `searched` of its genotype.json

    @property
    def well(self) -> bool:
        """Return whether its exit code is the right one: 130 after Ctrl-C, else 0."""
        return self.code == (130 if STOPPED.search(self.line) else 0)


def commands(page: str) -> list[str]:
    """Return the commands in the shell blocks of a page that end within minutes."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [
        line
        for block in blocks
        for line in block.splitlines()
        if line.startswith(("archgrad ", "python "))
    ]
    return [line for line in lines if not LONG.search(line) and "--dry-run" not in line]


def prepare(folder: Path) -> None:
    """Make the folders and files that the pages name."""
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name, count in (("photos", 100), ("other", 10)):
        for shape in SHAPES:
            (folder / name / shape).mkdir(parents=True)
            for k in range(count):
                draw(shape, f"{name}/{k}").save(folder / name / shape / f"{k:03}.jpg")
    for name in ("more", "folder"):
        (folder / name).mkdir()
        draw("circle", name).save(folder / name / "one.jpg")
    draw("square", "photo").save(folder / "photo.jpg")


def draw(shape: str, place: str) -> Image.Image:
    """Return an image of 32x32 pixels with one shape, of random colours, size and place."""
    rng = random.Random(f"{shape}/{place}")
    ground, colour = (
        tuple(rng.randrange(low, low + 96) for _ in range(3)) for low in rng.sample((0, 160), 2)
    )
    image = Image.new("RGB", (32, 32), ground)
    pen, side = ImageDraw.Draw(image), rng.randrange(12, 22)
    x, y = (rng.randrange(2, 30 - side) for _ in range(2))
    box = (x, y, x + side, y + side)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=colour)
    else:
        pen.line([(x, y), (x + side, y + side)], fill=colour, width=4)
        pen.line([(x + side, y), (x, y + side)], fill=colour, width=4)
    return image


def typed(page: str, folder: Path) -> Iterator[Typed]:
    """Run the commands of a page in a prepared folder."""
    found = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    known: dict[Path, int] = {}
    for line in commands(page):
        began, before = monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        code, output = run(line, folder, found)
        took = monotonic() - began
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        judged = {}
        for file in sorted(folder.rglob("genotype.json")):
            if known.get(file) != file.stat().st_mtime_ns:
                known[file] = file.stat().st_mtime_ns
                judged[str(file.parent.relative_to(folder))] = json.loads(file.read_text()).get(
                    "searched"
                )
        yield Typed(line, cpu, took, code, output, judged)


def run(line: str, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Return exit code and output of a command; send Ctrl-C after the epoch that it names."""
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(
        ["bash", "-c", line],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        **out,
    )
    if stop := STOPPED.search(line):
        tokens = shlex.split(line, comments=True)
        rows = folder / tokens[tokens.index("--out") + 1] / "metrics.jsonl"
        while process.poll() is None and not (
            rows.exists() and len(rows.read_text().splitlines()) >= int(stop.group(1))
        ):
            sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    return process.returncode, output


def main() -> int:
    failed = 0
    for page in sys.argv[1:] or PAGES:
        if not commands(page):
            continue
        print(f"{page}, load average {os.getloadavg()[0]:.1f}")
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            for one in typed(page, Path(folder)):
                judgements = "; ".join(
                    f"{name}: {' '.join(found['fails'].values()) or 'searched'}"
                    for name, found in one.judgements.items()
                )
                times = f"{one.cpu:6.1f} CPU s  {one.seconds:6.1f} s  rc {one.code}"
                print(f"  {times}  {one.line.split('  ')[0]}  {judgements}", flush=True)
                if not one.well or any(found["fails"] for found in one.judgements.values()):
                    failed += 1
                if not one.well:
                    print("\n".join(f"      {text}" for text in one.output.splitlines()[-5:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
