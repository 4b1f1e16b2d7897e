"""SegFormer files of NVIDIA and mmsegmentation give the logits of networks written here from their description.

The two reference networks have the names and the forward pass of those projects and share no code with Limbeck.
"""

import json
import math
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from limbeck import cli
from limbeck.artifact.load import load
from limbeck.artifact.metadata import Metadata
from limbeck.data.weights import load_backbone, load_weights
from limbeck.models.segformer import segformer
from limbeck.record import UserError

CLASSES = 5
WIDTHS, HEADS, REDUCTIONS, DEPTH = (32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1), 2
SIZES = ((64, 96), (65, 97))


def maps(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)


def tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


class Projection(nn.Module):
    """A layer of one name, as these projects nest them."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        setattr(self, name, layer)


class NvidiaAttention(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        if reduction > 1:
            self.sr, self.norm = nn.Conv2d(dim, dim, reduction, reduction), nn.LayerNorm(dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        n, length, dim = x.shape
        q = self.q(x).reshape(n, length, self.heads, dim // self.heads).permute(0, 2, 1, 3)
        small = self.norm(tokens(self.sr(maps(x, height, width)))) if self.reduction > 1 else x
        k, v = self.kv(small).reshape(n, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(dim // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, length, dim))


class NvidiaBlock(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn = NvidiaAttention(dim, heads, reduction)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.mlp.dwconv = Projection("dwconv", nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.attn(self.norm1(x), height, width)
        hidden = self.mlp.dwconv.dwconv(maps(self.mlp.fc1(self.norm2(x)), height, width))
        return x + self.mlp.fc2(F.gelu(tokens(hidden)))


class Nvidia(nn.Module):
    """``mit_b0`` with ``SegFormerHead``: patch_embed1.., block1.., norm1.., linear_c1.., linear_fuse, linear_pred."""

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.backbone, self.decode_head = nn.Module(), nn.Module()
        for i, (dim, heads, reduction) in enumerate(zip(WIDTHS, HEADS, REDUCTIONS, strict=True)):
            embed = nn.Module()
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            embed.proj = nn.Conv2d(3 if i == 0 else WIDTHS[i - 1], dim, kernel, stride, kernel // 2)
            embed.norm = nn.LayerNorm(dim)
            setattr(self.backbone, f"patch_embed{i + 1}", embed)
            blocks = nn.ModuleList(NvidiaBlock(dim, heads, reduction, eps) for _ in range(DEPTH))
            setattr(self.backbone, f"block{i + 1}", blocks)
            setattr(self.backbone, f"norm{i + 1}", nn.LayerNorm(dim, eps))
            setattr(self.decode_head, f"linear_c{i + 1}", Projection("proj", nn.Linear(dim, 256)))
        self.decode_head.linear_fuse = nn.Module()
        self.decode_head.linear_fuse.conv = nn.Conv2d(1024, 256, 1, bias=False)
        self.decode_head.linear_fuse.bn = nn.BatchNorm2d(256)
        self.decode_head.linear_pred = nn.Conv2d(256, CLASSES, 1)
        self.decode_head.conv_seg = nn.Conv2d(128, CLASSES, 1)  # in the files, and never used

    def forward(self, image: Tensor) -> Tensor:
        x, levels = image, []
        for i in range(1, 5):
            embed = getattr(self.backbone, f"patch_embed{i}")
            x = embed.proj(x)
            height, width = x.shape[-2:]
            x = embed.norm(tokens(x))
            for block in getattr(self.backbone, f"block{i}"):
                x = block(x, height, width)
            x = maps(getattr(self.backbone, f"norm{i}")(x), height, width)
            level = maps(getattr(self.decode_head, f"linear_c{i}").proj(tokens(x)), height, width)
            levels.append(level)
        size = levels[0].shape[-2:]
        c1, c2, c3, c4 = (F.interpolate(c, size, mode="bilinear", align_corners=False) for c in levels)
        fuse = self.decode_head.linear_fuse
        return self.decode_head.linear_pred(F.relu(fuse.bn(fuse.conv(torch.cat([c4, c3, c2, c1], 1)))))


class MmsegAttention(nn.Module):
    """``EfficientMultiheadAttention``: torch's own attention, queries from all tokens, keys from fewer."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.attn, self.reduction = nn.MultiheadAttention(dim, heads, batch_first=True), reduction
        if reduction > 1:
            self.sr, self.norm = nn.Conv2d(dim, dim, reduction, reduction), nn.LayerNorm(dim, 1e-6)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        small = self.norm(tokens(self.sr(maps(x, height, width)))) if self.reduction > 1 else x
        return self.attn(x, small, small, need_weights=False)[0]


class MmsegBlock(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = MmsegAttention(dim, heads, reduction)
        self.ffn = nn.Module()
        self.ffn.layers = nn.Sequential(
            nn.Conv2d(dim, 4 * dim, 1), nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim), nn.GELU(),
            nn.Dropout(0.0), nn.Conv2d(4 * dim, dim, 1), nn.Dropout(0.0),
        )  # fmt: skip

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.attn(self.norm1(x), height, width)
        return x + tokens(self.ffn.layers(maps(self.norm2(x), height, width)))


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mmseg(nn.Module):
    """``MixVisionTransformer`` with ``SegformerHead`` of mmsegmentation 0.20 and later."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.decode_head = nn.Module(), nn.Module()
        self.backbone.layers = nn.ModuleList()
        for i, (dim, heads, reduction) in enumerate(zip(WIDTHS, HEADS, REDUCTIONS, strict=True)):
            embed = nn.Module()
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            embed.projection = nn.Conv2d(3 if i == 0 else WIDTHS[i - 1], dim, kernel, stride, kernel // 2)
            embed.norm = nn.LayerNorm(dim, 1e-6)
            blocks = nn.ModuleList(MmsegBlock(dim, heads, reduction) for _ in range(DEPTH))
            self.backbone.layers.append(nn.ModuleList([embed, blocks, nn.LayerNorm(dim, 1e-6)]))
        self.decode_head.convs = nn.ModuleList(ConvModule(dim, 256) for dim in WIDTHS)
        self.decode_head.fusion_conv = ConvModule(1024, 256)
        self.decode_head.conv_seg = nn.Conv2d(256, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, levels = image, []
        for (embed, blocks, norm), conv in zip(self.backbone.layers, self.decode_head.convs, strict=True):
            x = embed.projection(x)
            height, width = x.shape[-2:]
            x = embed.norm(tokens(x))
            for block in blocks:
                x = block(x, height, width)
            x = maps(norm(x), height, width)
            levels.append(conv(x))
        size = levels[0].shape[-2:]
        outs = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
        return self.decode_head.conv_seg(self.decode_head.fusion_conv(torch.cat(outs, 1)))


def trained(net: nn.Module) -> nn.Module:
    """As training leaves a network: no norm, bias or statistic is where it began."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.normal_(0, 0.3)
            elif "norm" in name or ".bn" in name or name.endswith(("2.weight", "running_var")):
                value.uniform_(0.5, 1.5) if value.is_floating_point() and value.ndim == 1 else None
    return net.eval()


@pytest.fixture(scope="module")
def nvidia() -> nn.Module:
    torch.manual_seed(0)
    return trained(Nvidia())


@pytest.fixture(scope="module")
def mmseg() -> nn.Module:
    torch.manual_seed(1)
    return trained(Mmseg())


def saved(path: Path, net: nn.Module) -> Path:
    """A checkpoint as mmengine writes it, with a configuration of a class of its own."""
    module = types.ModuleType("mmengine")
    module.ConfigDict = type("ConfigDict", (dict,), {"__module__": "mmengine"})
    sys.modules["mmengine"] = module
    meta = {"cfg": module.ConfigDict(type="EncoderDecoder"), "dataset_meta": {"classes": list("abcde")}}
    torch.save({"meta": meta, "state_dict": net.state_dict(), "optimizer": {}, "message_hub": {}}, path)
    del sys.modules["mmengine"]
    return path


def assert_equal(ours: nn.Module, theirs: nn.Module, share: float) -> None:
    """Equal logits up to a share of their spread, at sizes that divide and that do not."""
    for size in SIZES:
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected, found = theirs(image), ours.eval()(image)
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < share * float(expected.std())


def test_mmsegmentation_files_give_mmsegmentation_s_logits(tmp_path: Path, mmseg: nn.Module) -> None:
    ours = segformer(num_classes=CLASSES, head="mmseg")
    report = load_weights(ours, saved(tmp_path / "segformer_mit-b0.pth", mmseg))
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    assert_equal(ours, mmseg, 1e-4)


def test_nvidia_s_files_give_nvidia_s_logits(tmp_path: Path, nvidia: nn.Module) -> None:
    """Some of NVIDIA's norms have an epsilon of 1e-6 where transformers has 1e-5: the rest of the difference."""
    ours = segformer(num_classes=CLASSES)
    report = load_weights(ours, saved(tmp_path / "segformer.b0.512x512.ade.160k.pth", nvidia))
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    assert_equal(ours, nvidia, 2e-3)
    same = Nvidia(eps=1e-5)
    same.load_state_dict(nvidia.state_dict())
    assert_equal(ours, same.eval(), 1e-4)


def test_the_order_of_keys_and_values_matters(tmp_path: Path, nvidia: nn.Module) -> None:
    """What the tests above would not see if the reference were blind to it."""
    turned = {n: v.flip(0) if ".attn.kv." in n else v for n, v in nvidia.state_dict().items()}
    torch.save(turned, tmp_path / "turned.pth")
    ours = segformer(num_classes=CLASSES)
    load_weights(ours, tmp_path / "turned.pth")
    with pytest.raises(AssertionError):
        assert_equal(ours, nvidia, 2e-3)


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_encoders_of_both_load_alone(prefix: str, nvidia: nn.Module, mmseg: nn.Module) -> None:
    """Bare names are those of the ImageNet files, ``mit_b0.pth``, with a classifier that is left out."""
    for net, head in ((nvidia, "paper"), (mmseg, "mmseg"), (mmseg, "paper")):
        state = {f"{prefix}{n}": v for n, v in net.backbone.state_dict().items()}
        ours = segformer(num_classes=9, head=head)
        report = load_backbone(ours, state | {"head.weight": torch.ones(1000, 256)}, "mit_b0.pth")
        assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])


def test_the_other_head_is_advised(tmp_path: Path, nvidia: nn.Module, mmseg: nn.Module) -> None:
    with pytest.raises(UserError, match=r"head of mmsegmentation: write `head: mmseg`"):
        load_weights(segformer(num_classes=CLASSES), saved(tmp_path / "mmseg.pth", mmseg))
    with pytest.raises(UserError, match=r"head of the paper: leave out"):
        load_weights(segformer(num_classes=CLASSES, head="mmseg"), saved(tmp_path / "nvidia.pth", nvidia))


@pytest.mark.parametrize(
    ("size", "millions"), [("b0", 3.72), ("b1", 13.68), ("b2", 24.72), ("b3", 44.6), ("b4", 61.37), ("b5", 81.97)]
)
def test_parameters_of_mmsegmentation_s_sizes(size: str, millions: float) -> None:
    """The encoder of the paper (table 1 less its head) and a head of 256 channels, at 19 classes: counted by hand."""
    with torch.device("meta"):
        model = segformer(num_classes=19, size=size, head="mmseg")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_exports_with_the_head(mmseg: nn.Module) -> None:
    ours = segformer(num_classes=CLASSES, head="mmseg").eval()
    batch = {0: torch.export.Dim("n", min=1, max=64)}
    graph = torch.export.export(ours, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(batch,), strict=False).module()
    image = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(graph(image), ours(image), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_one_command_from_an_mmsegmentation_file_to_integers(
    tmp_path: Path, mmseg: nn.Module, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., np.ndarray]
) -> None:
    """Class names come out of the file, as the images have none."""
    (tmp_path / "photos").mkdir()
    for index in range(10):
        Image.fromarray(picture(64, 64, index)).save(tmp_path / "photos" / f"{index}.png")
    file = saved(tmp_path / "segformer_mit-b0.pth", mmseg)
    words = ["quantize", str(file), "--arch", "segformer,size=b0,head=mmseg", "--data", str(tmp_path / "photos")]
    words += ["--size", "64", "64", "--name", "own", "bench.runs=2", "bench.rounds=2", "bench.warmup=1"]
    monkeypatch.setattr(sys, "argv", ["limbeck", *words, "bench.batches=[1]", "quantize.calibration.samples=8"])
    cli.main()
    run = Path(os.environ["LIMBECK_RUNS"]) / "own"
    rows = {row["id"]: row for row in json.loads((run / "summary.json").read_text())["rows"]}
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {}
    assert rows["student.fp32.onnxruntime"]["agreement"] > 99
    assert rows["student.int8.onnxruntime"]["agreement"] > 50
    metadata = Metadata.read(run / "student" / "student.safetensors")
    assert metadata is not None
    assert metadata.classes == tuple("abcde")
    assert metadata.architecture == {"kind": "segformer", "size": "b0", "head": "mmseg", "num_classes": CLASSES}
    ours = load(run / "student" / "student.safetensors").logits(np.zeros((1, 3, 64, 64), np.float32))
    with torch.no_grad():
        np.testing.assert_allclose(ours, mmseg(torch.zeros(1, 3, 64, 64)), atol=1e-3)
