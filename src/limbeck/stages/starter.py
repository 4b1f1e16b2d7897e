"""A first recipe and model file, for a folder of one's own."""

from pathlib import Path

from limbeck.record import UserError, write_text

__all__ = ["write"]

RECIPE = """\
# Run it: limbeck run recipe.yaml      Look before you run: limbeck check recipe.yaml
name: my-first-run
data:
  kind: scenes                  # the embedded data set; for your own: {kind: folder, path: /data/mine}, with
  size: [120, 160]              # images/{training,validation}, annotations/... and id2label.json in it
  batch: 8
  augment: {scale: [0.75, 1.5], flip: true, color: 0.2}
teacher: {kind: torchvision, arch: lraspp_mobilenet_v3_large}   # or: weights: path/to/weights.safetensors
student: {kind: ./models.py:build, width: 32}
baseline: true                  # the student once more without its teacher, to see what distillation gives
train:
  epochs: 8
  optimizer: {name: adamw, lr: 2.0e-3}
  schedule: {name: cosine, warmup: 0.1}
  task: {kind: cross_entropy, class_weights: log_frequency}
distil:
  - {kind: kd, at: logits, weight: 1}
  - {kind: cwd, at: logits, temperature: 4, weight: 3, schedule: {decay: [0.7, 1.0]}}
quantize: {kind: pt2e, target: openvino, qat: {epochs: 2, optimizer: {lr: 2.0e-4}}}
"""

MODELS = '''\
"""A network of your own: any torch.nn.Module that maps images [n, 3, h, w] to logits [n, classes, h', w']."""

from torch import Tensor, nn


def build(num_classes: int, width: int = 32) -> nn.Module:
    """Four strided blocks and a classifier; made of what INT8 runs fast: convolution, batch norm, ReLU."""
    layers: list[nn.Module] = []
    channels = 3
    for index in range(4):
        out, stride = width * min(4, 2**index), 2 if index < 3 else 1
        layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        channels = out
    return nn.Sequential(*layers, nn.Conv2d(channels, num_classes, 1))
'''


def write(folder: Path) -> list[Path]:
    """Write recipe.yaml and models.py; returns their paths.

    Raises:
        UserError: If one of them is there already; nothing is written then.
    """
    files = {folder / "recipe.yaml": RECIPE, folder / "models.py": MODELS}
    present = [path for path in files if path.exists()]
    if present or folder.is_file():
        raise UserError(f"{present[0] if present else folder}: is there already; choose another folder.")
    for path, text in files.items():
        write_text(path, text)
    return list(files)
