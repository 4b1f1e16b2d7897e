"""UPerNet on Swin: files of mmsegmentation and of transformers give the logits of those projects' networks.

The reference has mmsegmentation's names and forward pass, written from its description; it shares no code with Limbeck.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from limbeck.data.weights import load_backbone, load_weights
from limbeck.graph.network import without_aux
from limbeck.models.upernet_swin import upernet_swin
from limbeck.record import UserError

CLASSES, WINDOW = 5, 7
DEPTHS, HEADS, WIDTHS = (2, 2, 6, 2), (3, 6, 12, 24), (96, 192, 384, 768)


class WindowAttention(nn.Module):
    """``WindowMSA``: qkv in one layer, a bias for each relative position."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        at = torch.arange(WINDOW)
        row, column = at.repeat_interleave(WINDOW), at.repeat(WINDOW)
        index = (row[:, None] - row + WINDOW - 1) * (2 * WINDOW - 1) + column[:, None] - column + WINDOW - 1
        self.register_buffer("relative_position_index", index)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, dim))


def windows(x: Tensor) -> Tensor:
    """[n, h, w, c] as [n * windows, 49, c]."""
    n, height, width, c = x.shape
    x = x.reshape(n, height // WINDOW, WINDOW, width // WINDOW, WINDOW, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW * WINDOW, c)


class Shifted(nn.Module):
    """``ShiftWindowMSA``: pads to whole windows, rolls, masks what was no neighbour, rolls back, crops."""

    def __init__(self, dim: int, heads: int, shift: int) -> None:
        super().__init__()
        self.w_msa, self.shift = WindowAttention(dim, heads), shift

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        n, _, c = x.shape
        x = F.pad(x.reshape(n, height, width, c), (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        tall, wide = x.shape[1:3]
        mask = None
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
            region = torch.zeros(1, tall, wide, 1)
            parts = (slice(0, -WINDOW), slice(-WINDOW, -self.shift), slice(-self.shift, None))
            for number, (rows, columns) in enumerate((a, b) for a in parts for b in parts):
                region[:, rows, columns] = number
            region = windows(region).squeeze(-1)
            mask = torch.where(region[:, None] == region[:, :, None], 0.0, -100.0)
        x = self.w_msa(windows(x), mask)
        x = x.reshape(n, tall // WINDOW, wide // WINDOW, WINDOW, WINDOW, c).permute(0, 1, 3, 2, 4, 5)
        x = torch.roll(x.reshape(n, tall, wide, c), (self.shift, self.shift), (1, 2))
        return x[:, :height, :width].reshape(n, height * width, c)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), Shifted(dim, heads, shift), nn.LayerNorm(dim)
        self.ffn = nn.Module()
        first = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.0))
        self.ffn.layers = nn.Sequential(first, nn.Linear(4 * dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.attn(self.norm1(x), height, width)
        return x + self.ffn.layers(self.norm2(x))


class Merging(nn.Module):
    """``PatchMerging``: ``nn.Unfold`` of 2x2, norm, a linear layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        maps = x.transpose(1, 2).reshape(len(x), -1, height, width)
        maps = F.pad(maps, (0, width % 2, 0, height % 2))
        return self.reduction(self.norm(F.unfold(maps, 2, stride=2).transpose(1, 2)))


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class Mmseg(nn.Module):
    """``SwinTransformer`` with ``UPerHead`` and the auxiliary ``FCNHead``."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = nn.Module(), nn.Module(), nn.Module()
        self.backbone.patch_embed = nn.Module()
        self.backbone.patch_embed.projection, self.backbone.patch_embed.norm = nn.Conv2d(3, 96, 4, 4), nn.LayerNorm(96)
        self.backbone.stages = nn.ModuleList()
        for i, (dim, heads, depth) in enumerate(zip(WIDTHS, HEADS, DEPTHS, strict=True)):
            stage = nn.Module()
            stage.blocks = nn.ModuleList(Block(dim, heads, WINDOW // 2 * (at % 2)) for at in range(depth))
            stage.downsample = Merging(dim) if i < 3 else None
            self.backbone.stages.append(stage)
            setattr(self.backbone, f"norm{i}", nn.LayerNorm(dim))
        head = self.decode_head
        head.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvModule(768, 512, 1)) for size in (1, 2, 3, 6)
        )
        head.bottleneck = ConvModule(768 + 4 * 512, 512, 3)
        head.lateral_convs = nn.ModuleList(ConvModule(dim, 512, 1) for dim in WIDTHS[:3])
        head.fpn_convs = nn.ModuleList(ConvModule(512, 512, 3) for _ in range(3))
        head.fpn_bottleneck, head.conv_seg = ConvModule(4 * 512, 512, 3), nn.Conv2d(512, CLASSES, 1)
        self.auxiliary_head.convs = nn.Sequential(ConvModule(384, 256, 3))
        self.auxiliary_head.conv_seg = nn.Conv2d(256, CLASSES, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        body, head, levels = self.backbone, self.decode_head, []
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        x = body.patch_embed.projection(image)
        height, width = x.shape[2:]
        x = body.patch_embed.norm(x.flatten(2).transpose(1, 2))
        for i, stage in enumerate(body.stages):
            for block in stage.blocks:
                x = block(x, height, width)
            normed = getattr(body, f"norm{i}")(x)
            levels.append(normed.transpose(1, 2).reshape(len(x), -1, height, width))
            if stage.downsample is not None:
                x, height, width = stage.downsample(x, height, width), -(-height // 2), -(-width // 2)
        pooled = [resized(pool(levels[3]), levels[3]) for pool in head.psp_modules]
        laterals = [conv(level) for conv, level in zip(head.lateral_convs, levels[:3], strict=True)]
        laterals.append(head.bottleneck(torch.cat([levels[3], *pooled], 1)))
        for i in (3, 2, 1):
            laterals[i - 1] = laterals[i - 1] + resized(laterals[i], laterals[i - 1])
        outs = [*(conv(lateral) for conv, lateral in zip(head.fpn_convs, laterals[:3], strict=True)), laterals[3]]
        outs = [resized(out, outs[0]) for out in outs]
        logits = head.conv_seg(head.fpn_bottleneck(torch.cat(outs, 1)))
        return logits, self.auxiliary_head.conv_seg(self.auxiliary_head.convs(levels[2]))


@pytest.fixture(scope="module")
def mmseg() -> nn.Module:
    """As training leaves it: no norm, bias, table or statistic is where it began."""
    torch.manual_seed(0)
    net = Mmseg().eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("bias", "bias_table", "running_mean")):
                value.normal_(0, 0.3)
            elif value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return net


def test_mmsegmentation_files_give_mmsegmentation_s_logits(tmp_path: Path, mmseg: nn.Module) -> None:
    torch.save({"meta": {}, "state_dict": mmseg.state_dict()}, tmp_path / "upernet_swin_tiny.pth")
    ours = upernet_swin(num_classes=CLASSES).eval()
    report = load_weights(ours, tmp_path / "upernet_swin_tiny.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    seen: list[Tensor] = []
    ours.auxiliary_head.register_forward_hook(lambda _m, _i, out: seen.append(out))
    for size in ((64, 96), (65, 121)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected, found = mmseg(image)[0], ours(image)
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 1e-4 * float(expected.std())
    assert seen == []


def test_the_authors_files_load(mmseg: nn.Module) -> None:
    """Swin's authors merge patches as transformers does, so those layers are as they are in the file."""
    state = {
        name.replace("backbone.stages.", "backbone.layers.").replace("attn.w_msa.", "attn.")
        .replace("ffn.layers.0.0.", "mlp.fc1.").replace("ffn.layers.1.", "mlp.fc2.")
        .replace("patch_embed.projection.", "patch_embed.proj."): value
        for name, value in mmseg.state_dict().items()
    }  # fmt: skip
    ours = upernet_swin(num_classes=CLASSES)
    report = load_backbone(ours, state, "upernet_swin_tiny_patch4_window7_512x512.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    merging = ours.backbone.swin.encoder.layers[0].downsample.reduction.weight
    assert torch.equal(merging, mmseg.backbone.stages[0].downsample.reduction.weight)


def test_hub_folders_give_transformers_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    swin = SwinConfig(depths=list(DEPTHS), out_features=["stage1", "stage2", "stage3", "stage4"])
    theirs = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=swin, num_labels=CLASSES)).eval()
    theirs.save_pretrained(tmp_path)
    ours = upernet_swin(num_classes=CLASSES, pretrained=str(tmp_path)).eval()
    assert (ours.loaded.missing, ours.loaded.unexpected, ours.loaded.mismatched) == ([], [], [])
    image = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        whole = F.interpolate(ours(image), (65, 97), mode="bilinear", align_corners=False)
        torch.testing.assert_close(whole, theirs(image).logits, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(UserError, match="it is `size: tiny`, `window: 7`"):
        upernet_swin(num_classes=CLASSES, size="base", pretrained=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "segformer"}))
    with pytest.raises(UserError, match="'segformer' on 'swin', not 'upernet' on 'swin'"):
        upernet_swin(num_classes=CLASSES, pretrained=str(tmp_path))


@pytest.mark.parametrize(("size", "millions"), [("tiny", 60), ("small", 81), ("base", 121), ("large", 234)])
def test_parameters_are_those_of_the_paper(size: str, millions: float) -> None:
    """Table 3 of Liu et al. 2021 (ADE20K, with the auxiliary head), in whole millions."""
    with torch.device("meta"):
        model = upernet_swin(num_classes=150, size=size)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=1)
    assert without_aux(model).aux == {}
