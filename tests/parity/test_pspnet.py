"""PSPNet: files with mmsegmentation's names give the logits of a network written here from its description."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50

from limbeck.data.weights import load_backbone, load_weights
from limbeck.graph.network import without_aux
from limbeck.models._mmseg import BinPool
from limbeck.models.pspnet import pspnet

CLASSES = 5


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        if stride > 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(out)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mmseg(nn.Module):
    """``ResNetV1c`` with strides 1, 2, 1, 1, dilations 1, 1, 2, 4 contracted in the first block, and ``PSPHead``."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = nn.Module(), nn.Module(), nn.Module()
        stem: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            stem += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.backbone.stem = nn.Sequential(*stem)
        inputs = 64
        for stage, (blocks, stride, dilation) in enumerate(((3, 1, 1), (4, 2, 1), (6, 1, 2), (3, 1, 4))):
            width, layer = 64 * 2**stage, []
            for block in range(blocks):
                first = dilation // 2 if block == 0 and dilation > 1 else dilation
                layer.append(Bottleneck(inputs, width, stride if block == 0 else 1, first))
                inputs = 4 * width
            setattr(self.backbone, f"layer{stage + 1}", nn.Sequential(*layer))
        self.decode_head.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvModule(2048, 512, 1)) for size in (1, 2, 3, 6)
        )
        self.decode_head.bottleneck = ConvModule(4096, 512, 3)
        self.decode_head.conv_seg = nn.Conv2d(512, CLASSES, 1)
        self.auxiliary_head.convs = nn.Sequential(ConvModule(1024, 256, 3))
        self.auxiliary_head.conv_seg = nn.Conv2d(256, CLASSES, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.backbone.stem(image), 3, 2, 1)
        third = self.backbone.layer3(self.backbone.layer2(self.backbone.layer1(x)))
        x = self.backbone.layer4(third)
        size = x.shape[2:]
        pooled = [F.interpolate(p(x), size, mode="bilinear", align_corners=False) for p in self.decode_head.psp_modules]
        logits = self.decode_head.conv_seg(self.decode_head.bottleneck(torch.cat([x, *pooled], 1)))
        return logits, self.auxiliary_head.conv_seg(self.auxiliary_head.convs(third))


@pytest.fixture(scope="module")
def mmseg() -> nn.Module:
    torch.manual_seed(0)
    net = Mmseg()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return net.eval()


def test_mmsegmentation_files_give_mmsegmentation_s_logits(tmp_path: Path, mmseg: nn.Module) -> None:
    torch.save({"meta": {}, "state_dict": mmseg.state_dict()}, tmp_path / "pspnet_r50-d8.pth")
    ours = pspnet(num_classes=CLASSES).eval()
    report = load_weights(ours, tmp_path / "pspnet_r50-d8.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    for size in ((96, 96), (65, 121)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected, auxiliary = mmseg(image)
            found = ours(image)
            third = ours.auxiliary_head(ours.backbone(image)[0])
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 1e-4 * float(expected.std())
        assert float((third - auxiliary).abs().max()) < 1e-4 * float(auxiliary.std())


@pytest.mark.parametrize(("depth", "millions"), [(50, 46.7), (101, 65.7)])
def test_parameters(depth: int, millions: float) -> None:
    """mmsegmentation lists 46.68 (ADE20K, without the auxiliary head); 19 million more are ResNet-101's."""
    with torch.device("meta"):
        model = without_aux(pspnet(num_classes=150, depth=depth))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(12, 18), (9, 13), (10, 7), (4, 5), (1, 1)])
def test_pools_are_torch_s_and_export(bins: int, size: tuple[int, int]) -> None:
    pool, x = BinPool(bins), torch.randn(2, 3, *size)
    torch.testing.assert_close(pool(x), nn.AdaptiveAvgPool2d(bins)(x))
    graph = torch.export.export(pool, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},)).module()
    more = torch.randn(5, 3, *size)
    torch.testing.assert_close(graph(more), nn.AdaptiveAvgPool2d(bins)(more))


def test_pools_export_with_free_sizes() -> None:
    x = torch.randn(2, 3, 12, 18)
    free = {at: torch.export.Dim(name, min=8, max=64) for at, name in ((2, "h"), (3, "w"))}
    graph = torch.export.export(BinPool(6), (x,), dynamic_shapes=(free,)).module()
    other = torch.randn(2, 3, 17, 23)
    torch.testing.assert_close(graph(other), nn.AdaptiveAvgPool2d(6)(other))


def test_the_plain_stem_is_torchvision_s() -> None:
    classifier, ours = resnet50(), pspnet(num_classes=CLASSES, stem="plain")
    report = load_backbone(ours, classifier.state_dict(), "resnet50.pth")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    assert torch.equal(ours.backbone.layer4[2].conv3.weight, classifier.layer4[2].conv3.weight)
    with pytest.raises(ValueError, match="stem: plain"):
        pspnet(num_classes=CLASSES, backbone="imagenet")
