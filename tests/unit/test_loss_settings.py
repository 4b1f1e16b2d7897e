"""What losses refuse, and in which words."""

import pytest
import torch

from limbeck.build import build
from limbeck.data.stats import ClassCounts
from limbeck.record import UserError

CLASSES, COUNTS = 5, ClassCounts([50, 20, 20, 5, 5], [100] * 5)


@pytest.mark.parametrize("kind", ["boundary", "dice", "lovasz", "ohem"])
def test_losses_of_areas_refuse_whole_images(kind):
    with pytest.raises(UserError, match=f"{kind} is a loss of maps"):
        build("losses", {"kind": kind}, "test")(torch.randn(2, CLASSES), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "ohem", "threshold": 0}, r"threshold must be in \(0, 1\]"),
        ({"kind": "ohem", "min_kept": -1}, "min_kept must be >= 0"),
        ({"kind": "focal", "gamma": -0.5}, "gamma must be >= 0"),
        ({"kind": "boundary", "width": 4}, "width must be odd"),
        ({"kind": "boundary", "tolerance": 0}, "tolerance must be odd"),
        ({"kind": "cgd", "group_size": 0}, "group_size must be >= 1"),
        ({"kind": "cgd", "shuffle_every": -1}, "shuffle_every must be >= 0"),
        ({"kind": "attention", "power": 0.5}, "power must be >= 1"),
        ({"kind": "dist", "beta": -1}, "beta and gamma must be >= 0"),
        ({"kind": "dkd", "alpha": -1}, "alpha and beta must be >= 0"),
        ({"kind": "pairwise", "nodes": 0}, "nodes must be >= 1"),
        ({"kind": "mgd", "hidden": 1}, r"hidden must be in \[0, 1\)"),
        ({"kind": "cross_entropy", "class_weights": [1.0, 2.0]}, "class_weights has 2 numbers, but there are 5"),
        ({"kind": "focal", "class_weights": [0, 0, 0, 0, 0]}, "must not be negative, nor all 0"),
        (
            {"kind": "cross_entropy", "class_weights": "inverse"},
            "test.class_weights: .*'inverse_frequency', .*got 'inverse'",
        ),
    ],
)
def test_impossible_settings_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        build("losses", spec, "test", class_counts=COUNTS)


@pytest.mark.parametrize("kind", ["kd", "cwd", "cgd", "dist", "dkd", "pairwise"])
@pytest.mark.parametrize("temperature", [0, -1])
def test_impossible_temperatures_are_refused(kind, temperature):
    with pytest.raises(UserError, match="temperature must be > 0"):
        build("losses", {"kind": kind, "temperature": temperature}, "test")


@pytest.mark.parametrize("width", [0, -4])
def test_edges_have_a_width(width):
    with pytest.raises(UserError, match="width must be >= 1"):
        build("losses", {"kind": "edge", "width": width}, "test")


def test_an_edge_has_one_channel():
    student, target = torch.randn(3, CLASSES, 6, 8), torch.zeros(3, 6, 8, dtype=torch.long)
    with pytest.raises(UserError, match=r"logits \[n, 1, h, w\], got \[3, 5, 6, 8\]"):
        build("losses", {"kind": "edge"}, "test")(student, target)


def test_cross_entropy_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="label_smoothing"):
        build("losses", {"kind": "cross_entropy", "label_smoothing": 1.0}, "test", class_counts=COUNTS)
    with pytest.raises(UserError, match="labelled"):
        build("losses", {"kind": "cross_entropy", "class_weights": "log_frequency"}, "test", class_counts=None)
