"""What several families share: a backbone with heads."""

from typing import Any

from torch import Tensor, nn

from limbeck.data.weights import Report
from limbeck.graph.network import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Segmenter"]

AUX_WEIGHT = 0.4
"""Of an auxiliary head's loss. Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017 (arXiv:1612.01105)."""


class Segmenter(nn.Module):
    """A backbone that returns features by name, a classifier on ``out``, and perhaps an auxiliary one on ``aux``.

    A classifier that wants several features gets all of them when none is ``out``. ``architecture`` is what
    builds it again without a download, ``loaded`` the report on the named weights it was built with.
    """

    def __init__(
        self,
        architecture: dict[str, Any],
        backbone: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.loaded: Report | None = None
        self.backbone = backbone
        self.classifier = classifier
        if aux_classifier is not None:
            self.aux_classifier = aux_classifier
        self.aux = {} if aux_classifier is None else {"aux_classifier": AUX_WEIGHT}
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, image: Tensor) -> Tensor:
        """Logits at the stride of the classifier; the auxiliary head runs in training mode, for whoever taps it."""
        features: dict[str, Tensor] = self.backbone(image)
        if self.training and self.aux:
            self.aux_classifier(features["aux"])
        logits: Tensor = self.classifier(features.get("out", features))
        return logits
