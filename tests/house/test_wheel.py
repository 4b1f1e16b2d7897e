"""The built wheel holds everything: it works where there is no source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def limbeck(installed: Path, where: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    check = f"import limbeck; assert limbeck.__file__.startswith({str(installed)!r}), limbeck.__file__"
    subprocess.run([sys.executable, "-c", check], cwd=where, env=environment, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "limbeck.cli", *words],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_recipes_and_page_are_inside(installed: Path, tmp_path: Path) -> None:
    assert "camvid/quick" in limbeck(installed, tmp_path, "ls", "recipes")
    assert "name: demo" in limbeck(installed, tmp_path, "show", "demo")
    for name in ("page.html", "page.js", "style.css"):
        assert (installed / "limbeck" / "report" / name).is_file()


@pytest.mark.slow
def test_init_and_check_work_from_it(installed: Path, tmp_path: Path) -> None:
    limbeck(installed, tmp_path, "init", "mine")
    assert "student.logits" in limbeck(installed, tmp_path, "check", "mine/recipe.yaml")
