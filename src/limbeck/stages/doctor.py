"""What this machine has, and what each missing package would add."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

from limbeck import __version__
from limbeck.stages.context import data_root, runs_root

__all__ = ["findings"]

PACKAGES = {
    "torch": ("train", "training and PyTorch inference"),
    "torchvision": ("train", "torchvision networks, transforms"),
    "accelerate": ("train", "mixed precision, several processes"),
    "safetensors": ("train", "weight files"),
    "torchao": ("quant", "INT8 by calibration (PTQ) and by training (QAT)"),
    "onnx": ("onnx", "ONNX export"),
    "onnxscript": ("onnx", "ONNX export"),
    "onnxruntime": ("runtime", "running ONNX files"),
    "openvino": ("openvino", "running ONNX and OpenVINO files, the fastest INT8 on x86"),
    "transformers": ("hf", "SegFormer and hub weights"),
    "timm": ("timm", "hundreds of classifiers"),
    "segmentation_models_pytorch": ("smp", "Unet, FPN, PSPNet, ... with hundreds of encoders"),
    "matplotlib": ("report", "plots of the report"),
    "optuna": ("search", "search over a recipe's values"),
    "ray": ("ray", "sweeps over several machines"),
    "datasets": ("hub", "data sets of the Hugging Face hub, parquet files"),
}


def findings() -> Iterator[tuple[str, str]]:
    """Name and value of everything worth knowing when something does not work."""
    yield "limbeck", __version__
    yield "python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "cores", f"{psutil.cpu_count(logical=False)} physical, {psutil.cpu_count()} logical"
    yield "memory", f"{psutil.virtual_memory().total / 2**30:.1f} GiB"
    yield "cpu features", ", ".join(_features()) or "none that matter"
    yield "gpu", _gpu()
    for package, (extra, meaning) in PACKAGES.items():
        yield package, _package(package, extra, meaning)
    yield "data", f"{data_root()}{'' if data_root().is_dir() else ' (not there; set LIMBECK_DATA)'}"
    yield "runs", str(runs_root())


def _features() -> list[str]:
    """Instructions that decide which low precision is fast."""
    meanings = {
        "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI (fast INT8)",
        "avx_vnni": "AVX VNNI (fast INT8)",
        "avx512_bf16": "AVX-512 BF16 (fast bf16)", "amx_int8": "AMX INT8",
        "amx_bf16": "AMX BF16", "asimddp": "dot product (fast INT8)",
    }  # fmt: skip
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    return [meaning for flag, meaning in meanings.items() if flag in words]


def _gpu() -> str:
    if find_spec("torch") is None:
        return "unknown without torch"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none"


def _package(package: str, extra: str, meaning: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return f'missing: pip install "limbeck[{extra}]" adds {meaning}'
