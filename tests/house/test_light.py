"""What a user waits for: help and mistakes in a recipe come before anything heavy is loaded."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "torchao",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "accelerate",
    "matplotlib",
    "optuna",
    "ray",
)

LOADED = f"""
import sys
sys.argv = sys.argv[1:]
try:
    {{code}}
except SystemExit:
    pass
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""


def loaded(code: str, *words: str, cwd: Path | None = None) -> str:
    command = [sys.executable, "-c", LOADED.replace("{code}", code), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    return done.stdout.rpartition("LOADED ")[2].strip()


def test_the_package_is_light() -> None:
    assert loaded("import limbeck") == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["quantize", "--help"],
        ["ls"],
        ["ls", "models"],
        ["show", "demo"],
        ["sweep", "--help"],
        ["sweep", "demo", "seed=0,1", "--list"],
        ["search", "--help"],
        ["data", "get", "--help"],
        ["data", "get", "cityscapes"],
        ["data", "--help"],
    ],
)
def test_commands_that_need_nothing_load_nothing(words: list[str]) -> None:
    assert loaded("from limbeck.cli import main; main()", "limbeck", *words) == "[]"


def test_a_bad_recipe_is_refused_before_torch(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(
        "name: x\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet}\ntrain: {steps: 1}\n"
    )
    (tmp_path / "worse.yaml").write_text("nmae: x\n")
    for verb in ("check", "run", "train", "show"):
        assert loaded("from limbeck.cli import main; main()", "limbeck", verb, "worse.yaml", cwd=tmp_path) == "[]"
    assert loaded("from limbeck.cli import main; main()", "limbeck", "check", ".", cwd=tmp_path) == "[]"


def test_reading_exported_files_needs_no_torch() -> None:
    code = "import limbeck.artifact.load, limbeck.artifact.prediction, limbeck.metrics.evaluate, limbeck.report.page"
    assert "torch" not in loaded(code)


def test_timing_exported_files_needs_no_torch() -> None:
    code = (
        "sys.modules['torch'] = None; import limbeck.stages.bench, limbeck.report.tables; "
        "from limbeck.run import device_of; print(device_of('auto'), device_of('cpu'))"
    )
    command = [sys.executable, "-c", f"import sys; {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "cpu cpu\n"


def processor_seconds() -> float:
    """What child processes used so far: unlike the clock, it does not count waiting for other programs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_there_at_once() -> None:
    seconds = []
    for _ in range(3):
        start = processor_seconds()
        subprocess.run([sys.executable, "-m", "limbeck.cli", "--help"], capture_output=True, check=True)
        seconds.append(processor_seconds() - start)
    assert statistics.median(seconds) < 0.5
