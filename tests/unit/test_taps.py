import copy
import re

import pytest
import torch
from torch import nn

from limbeck.record import UserError
from limbeck.train.taps import LOGITS, Tapped

IMAGE = torch.randn(2, 3, 16, 24)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_tapped_tensors_are_what_the_modules_gave(student):
    logits, taps = Tapped(student, ["backbone.2", "backbone"])(IMAGE)
    assert list(taps) == ["backbone.2", "backbone", LOGITS]
    student.eval()
    features = student.backbone[:3](IMAGE)
    assert taps["backbone.2"].shape == features.shape
    assert torch.equal(taps[LOGITS], logits)
    assert torch.equal(student.classifier(taps["backbone"]), logits)
    assert taps["backbone"].requires_grad


def test_logits_are_always_there_and_paths_come_once(student):
    assert list(Tapped(student, [])(IMAGE)[1]) == [LOGITS]
    assert list(Tapped(student, [LOGITS, "backbone", "backbone"])(IMAGE)[1]) == ["backbone", LOGITS]
    assert hooks(student) == 1


def test_the_network_gives_what_it_gave(student):
    student.eval()
    before = student(IMAGE)
    logits, _ = Tapped(student, ["backbone.0"])(IMAGE)
    assert torch.equal(logits, before)
    assert list(student.state_dict()) == list(copy.deepcopy(student).state_dict())


@pytest.mark.parametrize(
    ("path", "near"),
    [("backbone.9", "backbone.6"), ("backbon", "backbone"), ("clasifier", "classifier"), ("xyzzy", "backbone")],
)
def test_an_unknown_path_lists_near_names(student, path, near):
    with pytest.raises(UserError) as caught:
        Tapped(student, [path], "student")
    assert str(caught.value).startswith(f"student has no submodule {path!r}")
    assert near in str(caught.value).partition("Near:")[2]
    assert hooks(student) == 0


def test_a_module_that_runs_twice(student):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(3, 3, 1)

        def forward(self, image):
            return self.shared(self.shared(image))

    tapped = Tapped(Twice(), ["shared"], "student")
    with pytest.raises(UserError, match=r"student\.shared runs more than once"):
        tapped(IMAGE)


def test_a_module_that_does_not_run(tiny):
    model = tiny(aux=True)
    tapped = Tapped(model, ["aux_classifier"], "student")
    assert "aux_classifier" in tapped(IMAGE)[1]
    model.eval()
    with pytest.raises(UserError, match=r"student\.aux_classifier did not run"):
        tapped(IMAGE)
    model.train()
    assert "aux_classifier" in tapped(IMAGE)[1]


class Odd(nn.Module):
    """A network with an inner module that gives something else than a tensor."""

    def __init__(self, output):
        super().__init__()
        self.inner, self.head = Inner(output), nn.Conv2d(3, 2, 1)

    def forward(self, image):
        self.inner(image)
        return self.head(image)


class Inner(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, image):
        return self.output(image)


@pytest.mark.parametrize("output", [lambda x: (x + 1, None), lambda x: [x + 1, x], lambda x: x + 1])
def test_of_a_tuple_the_first_is_taken(output):
    assert torch.equal(Tapped(Odd(output), ["inner"])(IMAGE)[1]["inner"], IMAGE + 1)


@pytest.mark.parametrize("output", [lambda x: {"a": x}, lambda x: None, lambda x: (), lambda x: ("a", x)])
def test_what_is_no_tensor_is_refused(output):
    with pytest.raises(UserError, match=r"student\.inner gives \w+, not a tensor; tap a submodule"):
        Tapped(Odd(output), ["inner"], "student")(IMAGE)


def test_an_error_does_not_spoil_the_next_call(student):
    tapped = Tapped(student, ["backbone.0"])
    with pytest.raises(RuntimeError):
        tapped(torch.randn(2, 5, 16, 24))
    assert len(tapped(IMAGE)[1]) == 2


def test_nothing_is_kept_between_calls_or_outside_of_them(student):
    tapped = Tapped(student, ["backbone"])
    first = tapped(IMAGE)[1]["backbone"]
    student(IMAGE)
    student(IMAGE)
    assert tapped._seen == {}
    second = tapped(IMAGE + 1)[1]["backbone"]
    assert not torch.equal(first, second)


def test_close_removes_the_hooks(student):
    tapped = Tapped(student, ["backbone.0", "backbone", "classifier"])
    assert hooks(student) == 3
    tapped.close()
    tapped.close()
    assert hooks(student) == 0


def test_two_on_one_network_do_not_disturb_each_other(student):
    student.eval()
    one, other = Tapped(student, ["backbone"], "student"), Tapped(student, ["backbone", "classifier"], "teacher")
    alone = one(IMAGE)[1]
    assert set(other(IMAGE)[1]) == {"backbone", "classifier", LOGITS}
    assert set(one(IMAGE)[1]) == {"backbone", LOGITS}
    one.close()
    assert torch.equal(other(IMAGE)[1]["backbone"], alone["backbone"])
    other.close()
    assert hooks(student) == 0


def test_it_owns_no_parameters(student):
    assert not isinstance(Tapped(student, ["backbone"]), nn.Module)
    assert not any(re.search("tap", name) for name in student.state_dict())


def test_what_is_overwritten_later_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
    with pytest.raises(UserError, match=r"student\.1 is changed in place afterwards; tap the next module"):
        Tapped(model, ["1"], "student")(IMAGE)
    with torch.no_grad(), pytest.raises(UserError, match="changed in place"):
        Tapped(model, ["1"], "student")(IMAGE)
    tapped = Tapped(model, ["0", "2"], "student")
    _, taps = tapped(IMAGE)
    assert torch.equal(taps["2"], model[:3](IMAGE))
    assert tapped._versions == {}


def test_in_inference_mode_taps_work_still(student):
    with torch.inference_mode():
        assert "backbone" in Tapped(student, ["backbone"])(IMAGE)[1]


def test_only_what_is_tapped_is_computed(student):
    student.eval()
    ran = []
    student.classifier.register_forward_hook(lambda *_: ran.append(1))
    tapped = Tapped(student, ["backbone", "backbone.2"])
    found = tapped.only(IMAGE)
    assert (list(found), ran) == (["backbone.2", "backbone"], [])
    whole = tapped(IMAGE)[1]
    assert ran == [1]
    assert all(torch.equal(found[path], whole[path]) for path in found)
    assert student(IMAGE).shape[1] == 4, "alone, the network runs to its end"
    assert len(ran) == 2
    student.aux = nn.Identity()
    with pytest.raises(UserError, match="aux did not run"):
        Tapped(student, ["aux"], "teacher").only(IMAGE)
