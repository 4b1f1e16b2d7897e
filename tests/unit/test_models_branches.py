"""DDRNet-23-slim and PIDNet-S against the papers' counts and a second writing of their forward passes."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from _published import Published
from torch import Tensor, nn

from limbeck.data.weights import load_tensors
from limbeck.graph.network import without_aux
from limbeck.models.ddrnet23_slim import ddrnet23_slim
from limbeck.models.pidnet_s import pidnet_s

CLASSES = 19


def _stretched(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear")


class Reference(Published):
    """The parts both networks have, under the names of both authors."""

    def normed(self, name: str, x: Tensor, out: int, size: int, stride: int = 1, first: int = 0) -> Tensor:
        return self.norm(f"{name}.{first + 1}", self.conv(f"{name}.{first}", x, out, size, stride))

    def activated(self, name: str, x: Tensor, out: int, size: int = 1, first: int = 0, groups: int = 1) -> Tensor:
        return self.conv(f"{name}.{first + 2}", F.relu(self.norm(f"{name}.{first}", x)), out, size, groups=groups)

    def block(self, name: str, x: Tensor, width: int, stride: int, expansion: int) -> Tensor:
        plan = (
            [(3, stride, width), (3, 1, width)]
            if expansion == 1
            else [(1, 1, width), (3, stride, width), (1, 1, 2 * width)]
        )
        out = x
        for index, (size, step, channels) in enumerate(plan, 1):
            out = F.relu(out) if index > 1 else out
            out = self.norm(f"{name}.bn{index}", self.conv(f"{name}.conv{index}", out, channels, size, step))
        if stride > 1 or x.shape[1] != expansion * width:
            x = self.normed(f"{name}.downsample", x, expansion * width, 1, stride)
        return out + x

    def layer(self, name: str, x: Tensor, width: int, blocks: int, stride: int = 1, expansion: int = 1) -> Tensor:
        for index in range(blocks):
            x = self.block(f"{name}.{index}", x, width, stride if index == 0 else 1, expansion)
            x = F.relu(x) if expansion == 1 and index < blocks - 1 else x
        return x

    def stem(self, x: Tensor) -> Tensor:
        for index in (0, 3):
            x = F.relu(self.norm(f"conv1.{index + 1}", self.conv(f"conv1.{index}", x, 32, 3, 2, bias=True)))
        return x

    def scales(self, x: Tensor, width: int) -> list[Tensor]:
        pooled = [F.avg_pool2d(x, 5, 2, 2), F.avg_pool2d(x, 9, 4, 4), F.avg_pool2d(x, 17, 8, 8), x.mean((2, 3), True)]
        return [_stretched(self.activated(f"spp.scale{i}", p, width, first=1), x) for i, p in enumerate(pooled, 1)]

    def head(self, name: str, x: Tensor, width: int, out: int) -> Tensor:
        x = self.conv(f"{name}.conv1", F.relu(self.norm(f"{name}.bn1", x)), width)
        return self.conv(f"{name}.conv2", F.relu(self.norm(f"{name}.bn2", x)), out, 1, bias=True)


def _ddrnet(net: Reference, image: Tensor) -> tuple[Tensor, ...]:
    relu = F.relu
    x2 = net.layer("layer2", relu(net.layer("layer1", net.stem(image), 32, 2)), 64, 2, 2)
    x3 = net.layer("layer3", relu(x2), 128, 2, 2)
    fine = net.layer("layer3_", relu(x2), 64, 2)
    low = x3 + net.normed("down3", relu(fine), 128, 3, 2)
    early = fine = fine + _stretched(net.normed("compression3", relu(x3), 64, 1), fine)
    x4 = net.layer("layer4", relu(low), 256, 2, 2)
    fine = net.layer("layer4_", relu(fine), 64, 2)
    down = net.normed("down4", relu(net.normed("down4", relu(fine), 128, 3, 2)), 256, 3, 2, first=3)
    fine = fine + _stretched(net.normed("compression4", relu(x4), 64, 1), fine)
    fine = net.layer("layer5_", relu(fine), 64, 1, expansion=2)
    deep = net.layer("layer5", relu(x4 + down), 256, 1, 2, expansion=2)
    scales = [net.activated("spp.scale0", deep, 128)]
    for index, scale in enumerate(net.scales(deep, 128), 1):
        scales.append(net.activated(f"spp.process{index}", scale + scales[-1], 128, 3))
    context = net.activated("spp.compression", torch.cat(scales, 1), 128) + net.activated("spp.shortcut", deep, 128)
    logits = net.head("final_layer", fine + _stretched(context, fine), 64, CLASSES)
    return logits, net.head("seghead_extra", early, 64, CLASSES)


def _pidnet(net: Reference, image: Tensor) -> tuple[Tensor, ...]:
    relu = F.relu

    def pag(name: str, x: Tensor, y: Tensor) -> Tensor:
        key, query = net.normed(f"{name}.f_x", x, 32, 1), _stretched(net.normed(f"{name}.f_y", y, 32, 1), x)
        trust = torch.einsum("nchw,nchw->nhw", key, query).sigmoid()[:, None]
        return torch.lerp(x, _stretched(y, x), trust)

    x = relu(net.layer("layer2", relu(net.layer("layer1", net.stem(image), 32, 2)), 64, 2, 2))
    p, d = net.layer("layer3_", x, 64, 2), net.block("layer3_d", x, 32, 1, 1)
    x = relu(net.layer("layer3", x, 128, 3, 2))
    early = p = pag("pag3", p, net.normed("compression3", x, 64, 1))
    d = d + _stretched(net.normed("diff3", x, 32, 3), d)
    x = relu(net.layer("layer4", x, 256, 3, 2))
    p = pag("pag4", net.layer("layer4_", relu(p), 64, 2), net.normed("compression4", x, 64, 1))
    d = net.layer("layer4_d", relu(d), 32, 1, expansion=2)
    edges = d = d + _stretched(net.normed("diff4", x, 64, 3), d)
    p, d = (net.layer(f"layer5_{kind}", relu(y), 64, 1, expansion=2) for kind, y in (("", p), ("d", d)))
    deep = net.layer("layer5", x, 256, 2, 2, expansion=2)
    whole = net.activated("spp.scale0", deep, 96)
    joined = torch.cat([scale + whole for scale in net.scales(deep, 96)], 1)
    refined = torch.cat([whole, net.activated("spp.scale_process", joined, 384, 3, groups=4)], 1)
    context = net.activated("spp.compression", refined, 128) + net.activated("spp.shortcut", deep, 128)
    i, edge = _stretched(context, p), d.sigmoid()
    fused = net.normed("dfm.conv_p", p + i - edge * i, 128, 1) + net.normed("dfm.conv_i", i + edge * p, 128, 1)
    logits = net.head("final_layer", fused, 128, CLASSES)
    return logits, net.head("seghead_p", early, 128, CLASSES), net.head("seghead_d", edges, 32, 1)


NETWORKS = [(ddrnet23_slim, _ddrnet, 5.7), (pidnet_s, _pidnet, 7.6)]


@pytest.mark.parametrize(("build", "reference", "millions"), NETWORKS)
def test_parameters_are_those_of_the_paper(build: Callable[..., nn.Module], reference: object, millions: float) -> None:
    """Inference networks at 19 classes: table 4 of Hong et al. 2021, table 5 of Xu et al. 2023."""
    with torch.device("meta"):
        model, plain = without_aux(build(num_classes=CLASSES)), build(num_classes=CLASSES, aux=False)
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (model, plain)]
    assert counts[0] == counts[1]
    assert counts[0] / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("build", "reference", "millions"), NETWORKS)
def test_published_weights_give_the_published_logits(
    build: Callable[..., nn.Module], reference: Callable[..., tuple[Tensor, ...]], millions: float
) -> None:
    """The names of the authors' files, with and without what training frameworks put before them."""
    net, image = Reference(), torch.randn(2, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    model = build(num_classes=CLASSES)
    expected = reference(net, image)
    report = load_tensors(model, {f"module.model.{name}": value for name, value in net.state.items()}, "published")
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])
    outputs = [model.eval()(image)]
    heads: list[Tensor] = []
    for name in model.aux:
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out: heads.append(out))
    for module in (m for m in model.modules() if not isinstance(m, nn.BatchNorm2d)):
        module.training = True  # heads run, batch norms keep their statistics
    outputs += [model(image), *heads]
    for found, wanted in zip(outputs, [expected[0], *expected], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))
    load_tensors(build(num_classes=CLASSES, aux=False), net.state, "published")
