"""Networks from anywhere: plain logits, normalisation, auxiliary heads."""

import copy
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from limbeck.build import build
from limbeck.graph.network import IMAGENET_MEAN, as_logits, without_aux
from limbeck.record import UserError


class Foreign(nn.Module):
    """Somebody's own network; what it returns is up to ``form``."""

    def __init__(self, form: Any = lambda logits: logits) -> None:
        super().__init__()
        self.body, self.head, self.form = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 1), form

    def forward(self, image: Tensor) -> Any:
        return self.form(self.head(self.body(image)))


IMAGE = torch.randn(2, 3, 16, 24)
FORMS = {
    "tensor": lambda logits: logits,
    "out": lambda logits: OrderedDict(out=logits, aux=logits + 1),
    "logits": lambda logits: {"loss": None, "logits": logits},
    "object": lambda logits: SimpleNamespace(logits=logits),
    "tuple": lambda logits: (logits, logits + 1),
    "list": lambda logits: [logits, logits + 1],
}


@pytest.mark.parametrize("form", FORMS)
def test_any_usual_output_becomes_logits(form: str) -> None:
    plain = Foreign().eval()
    model = as_logits(as_logits(Foreign(FORMS[form]).eval()))
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model(IMAGE), plain(IMAGE))
    assert torch.equal(copy.deepcopy(model)(IMAGE), plain(IMAGE))
    assert "head.weight" in model.state_dict()
    graph = torch.export.export(model, (IMAGE,), strict=False).module()
    torch.testing.assert_close(graph(IMAGE), plain(IMAGE))


@pytest.mark.parametrize(
    ("form", "found"),
    [(lambda x: {"mask": x, "edge": x}, "a mapping with 'mask', 'edge'"), (lambda x: None, "NoneType")],
)
def test_other_output_is_an_error(form: Any, found: str) -> None:
    with pytest.raises(UserError, match=rf"Foreign.forward returns {found}"):
        as_logits(Foreign(form))(IMAGE)


def test_normalisation_is_kept_or_imagenets() -> None:
    assert as_logits(Foreign()).mean == IMAGENET_MEAN
    own = Foreign()
    own.mean, own.std = [0, 0, 0], [1, 1, 1]
    assert (as_logits(own).mean, own.std, own.aux) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), {})


def test_what_cannot_be_right_is_refused() -> None:
    grey, inside, wrong, module = Foreign(), Foreign(), Foreign(), Foreign()
    grey.mean = (0.5,)
    inside.register_buffer("mean", torch.zeros(3, 1, 1))
    wrong.aux = {"hed": 0.4}
    module.aux = nn.Conv2d(1, 1, 1)
    for model, message in (
        (grey, r"Foreign: mean is \(0.5,\), std .*each needs one a channel"),
        (inside, "normalises its input itself"),
        (wrong, "Did you mean 'head'"),
        (module, "aux is a Conv2d"),
        ("resnet", "must return a torch.nn.Module"),
    ):
        with pytest.raises(UserError, match=message):
            as_logits(model)


class Helped(Foreign):
    """With an auxiliary head two levels down, which runs in training only and takes two arguments."""

    aux: ClassVar[dict[str, Any]] = {"heads.early": 0.3}

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"early": nn.Bilinear(1, 1, 1)})

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            self.heads["early"](torch.ones(1, 1), torch.ones(1, 1))
        return super().forward(image)


def test_auxiliary_heads_can_be_dropped() -> None:
    model = as_logits(Helped())
    bare = without_aux(model)
    assert (bare.aux, model.aux) == ({}, {"heads.early": 0.3})
    assert [name for name in bare.state_dict() if "early" in name] == []
    assert torch.equal(bare.train()(IMAGE), model.eval()(IMAGE))


def test_heads_say_what_they_learn_by() -> None:
    model, edge = Helped(), {"kind": "edge", "weight": 20, "width": 2}
    model.aux = {"heads.early": edge}
    assert as_logits(model).aux == {"heads.early": edge}
    for wrong, message in (
        ({"weight": 1.0}, r"Helped.aux\['heads.early'\] has no kind"),
        ({"kind": "edge", "weight": -1}, "at least 0 is needed, got -1"),
        ("edge", "at least 0 is needed, got 'edge'"),
        (True, "at least 0 is needed, got True"),
    ):
        model.aux = {"heads.early": wrong}
        with pytest.raises(UserError, match=message):
            as_logits(model)


def test_a_users_own_file_obeys_the_contract(tmp_path) -> None:
    (tmp_path / "models.py").write_text(
        "from torch import nn\n"
        "def build(num_classes: int, width: int = 4) -> nn.Module:\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, num_classes, 1))\n"
    )
    model = as_logits(build("models", {"kind": "./models.py:build", "width": 8}, "student", tmp_path, num_classes=3))
    assert model(IMAGE).shape == (2, 3, 8, 12)
