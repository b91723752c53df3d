"""The wheel carries its data: installed away from the repository, the bundled table answers."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command: object, **options) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_installs_elsewhere_and_its_table_answers(tmp_path):
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        tmp_path / "dist",
        ROOT,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        wheel,
    )
    # The dependencies come from the environment of this test, behind the installed wheel.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python, away = tmp_path / "env" / "bin" / "python", tmp_path / "away"
    away.mkdir()
    code = "import archgrad, sys; print(archgrad.__file__); from archgrad.cli import main; sys.exit(main(sys.argv[1:]))"
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    where, answer = run(
        python, "-c", code, "query", "nasbench201", cell, "--json", cwd=away
    ).splitlines()
    assert where.startswith(str(site))
    assert round(json.loads(answer)["cifar10_test"], 2) == 93.76
    licences = {path.name for path in site.glob("archgrad-*.dist-info/licenses/*")}
    assert {"LICENSE", "NOTICE"} <= licences
