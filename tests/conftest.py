"""What tests share: tiny networks and images, folders of their own, one thread, no network."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.sample import VOID, Sample
from limbeck.record import digest

CLASSES = 4


class TinyNet(nn.Module):
    """About two thousand parameters with everything that training has to get right: batch norm, dropout, a head."""

    def __init__(self, width: int, classes: int, dropout: float, aux: bool) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Conv2d(width, classes, 1)
        self.aux = {"aux_classifier": 0.4} if aux else {}
        if aux:
            self.aux_classifier = nn.Conv2d(width, classes, 1)
        self.mean, self.std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(image)
        if self.training and self.aux:
            self.aux_classifier(features)
        return self.classifier(features)


class TinySamples:
    """A split of images whose label can be seen: each class has its own grey level."""

    classes = tuple(f"class {index}" for index in range(CLASSES))
    palette = ()

    def __init__(self, length: int, size: tuple[int, int] = (16, 24), labelled: bool = True) -> None:
        self.length, self.size, self.labelled = length, size, labelled

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        target = rng.integers(0, CLASSES, (self.size[0] // 4, self.size[1] // 4), np.uint8)
        target = target.repeat(4, 0).repeat(4, 1)
        image = (target * 60)[..., None].repeat(3, -1) + rng.integers(0, 30, (*self.size, 3), np.uint8)
        target[:2] = VOID
        return Sample(image, target if self.labelled else None, f"tiny-{index}")

    def digest(self) -> str:
        return digest(["tiny", self.length, self.size])


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and caches of a test stay in its own folder."""
    folder = tmp_path_factory.mktemp("limbeck")
    monkeypatch.setenv("LIMBECK_RUNS", str(folder / "runs"))
    monkeypatch.setenv("LIMBECK_CACHE", str(folder / "cache"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sockets of this machine open."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def tiny() -> Callable[..., TinyNet]:
    """``tiny(width=12, classes=4, dropout=0.0, aux=False, seed=0)``: a network with its own random weights."""

    def make(
        width: int = 12, classes: int = CLASSES, dropout: float = 0.0, aux: bool = False, seed: int = 0
    ) -> TinyNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TinyNet(width, classes, dropout, aux)

    return make


@pytest.fixture
def student(tiny: Callable[..., TinyNet]) -> TinyNet:
    """A student of about 1,700 parameters."""
    return tiny()


@pytest.fixture
def teacher(tiny: Callable[..., TinyNet]) -> TinyNet:
    """A teacher that is wider than the student."""
    return tiny(width=16, seed=1)


@pytest.fixture
def samples() -> type[TinySamples]:
    """``samples(length, size=(16, 24), labelled=True)``: a split of tiny images."""
    return TinySamples


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """``picture(height, width, seed=0)``: random RGB pixels."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return make


@pytest.fixture
def camvid() -> Path:
    """The folder that holds CamVid; skips where it is not."""
    root = Path(os.environ.get("LIMBECK_DATA", "data"))
    if not (root / "camvid" / "images").is_dir():
        pytest.skip(f"no CamVid under {root}: set LIMBECK_DATA to the folder that holds camvid/ to run this test")
    return root
