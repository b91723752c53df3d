"""A researcher's day, typed as it stands in benchmarks/day: methods, a loss and a space of one's own, from the first look to a study."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import archgrad

DAY = Path(__file__).parent.parent / "benchmarks" / "day"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_researchers_day(tmp_path):
    home = tmp_path / "day"
    shutil.copytree(DAY, home, ignore=shutil.ignore_patterns("__pycache__"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("archgrad", "-P -m archgrad"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (programs / name).chmod(0o755)
    source = str(Path(archgrad.__file__).parents[1])
    there = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": source}
    done = subprocess.run(["sh", "day.sh"], cwd=home, env=there, capture_output=True, text=True)
    said = done.stdout + done.stderr
    print(said)
    assert done.returncode == 0, said
    assert said.count("refused: ") == 2 and "plugin mypackage.nas is missing" in said
    recorded = [home / "study" / "study.yaml", home / "runs" / "cooled" / "config.yaml"]
    recorded += (home / "study" / "runs").glob("*/config.yaml")
    assert len(recorded) == 2 + 4 * 2
    assert all(
        yaml.safe_load(path.read_text())["plugins"] == ["mypackage.nas==0.3"] for path in recorded
    )
    networks = [
        *home.glob("runs/*/retrain/network.json"),
        *home.glob("study/runs/*/retrain-seed1/network.json"),
    ]
    assert len(networks) == 1 + 4 * 2
    assert all(
        json.loads(path.read_text())["plugins"] == ["mypackage.nas==0.3"] for path in networks
    )
    numbers = json.loads((home / "study" / "compare.json").read_text())
    assert not numbers.get("failed") and "cooled+mixed+soft" in json.dumps(numbers)
