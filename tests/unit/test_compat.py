"""Settings of papers and toolkits by name: on our scale they are what their own code computes."""

import sys

import pytest
import torch
import torch.nn.functional as F

from limbeck import cli
from limbeck.build import build, find, names
from limbeck.losses.cgd import ChannelGroups
from limbeck.losses.kd import KnowledgeDistillation
from limbeck.recipe import read
from limbeck.record import UserError
from limbeck.stages.check import check

PRESETS = [(kind, name) for kind in names("losses") for name in getattr(find("losses", kind, "here"), "presets", {})]
RECIPE = """\
name: x
data: {kind: scenes, size: [32, 48], training: 4, validation: 2, batch: 2}
teacher: {kind: compact_unet, width: 6, stages: 2, train: {epochs: 1}}
student: {kind: compact_unet, width: 4, stages: 2}
train: {steps: 2}
bench: null
"""


@pytest.fixture
def recipe(tmp_path):
    def write(distil):
        (tmp_path / "r.yaml").write_text(f"{RECIPE}distil: {distil}\n")
        return read(tmp_path / "r.yaml")

    return write


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_settings_are_ones_the_loss_takes(kind, name):
    preset = find("losses", kind, "here").presets[name]
    assert build("losses", {"kind": kind, **preset.settings}, "here")
    assert preset.weight > 0
    assert str(preset).endswith(f"weight: {preset.weight:g}" + (f" times {preset.sums}" if preset.sums else ""))


def test_mmrazors_kd_is_a_sum_over_pixels():
    rng = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, 6, 8, generator=rng) for _ in range(2))
    preset = KnowledgeDistillation.presets["mmrazor"]
    ours = KnowledgeDistillation(**preset.settings)(student, teacher, None) * preset.weight_on(student.shape)
    theirs = F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")
    torch.testing.assert_close(ours, theirs)
    assert preset.weight_on((3, 5)) == 1


def test_segdistills_groups_have_no_square_of_the_temperature():
    rng = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(2, 20, 6, 8, generator=rng) for _ in range(2))
    preset = ChannelGroups.presets["segdistill"]
    plain = {"group_size": 10, "temperature": 2.0}
    assert preset.settings.items() >= plain.items()
    rows = [tensor.reshape(4, -1) / 2 for tensor in (student, teacher)]
    theirs = 3 * F.kl_div(F.log_softmax(rows[0], 1), F.softmax(rows[1], 1), reduction="batchmean")
    torch.testing.assert_close(preset.weight * ChannelGroups(**plain)(student, teacher, None), theirs)


def test_weights_follow_the_size_and_check_says_so(recipe):
    lines = "\n".join(
        check(recipe("[{kind: kd, compat: mmrazor}, {kind: mgd, compat: paper-segmentation, at: encoder.1}]"))
    )
    weights = {line.split()[0]: line.split()[-2] for line in lines.splitlines() if line.startswith(("kd ", "mgd "))}
    assert weights == {"kd": "384", "mgd": "0.02304"}  # 16 x 24 logits; 2e-5 on 12 channels of 8 x 12
    assert "distil.terms.0: kd as in mmrazor is temperature: 1.0, mask: all, weight: 1 times positions" in lines
    assert "distil.terms.1: mgd as in paper-segmentation is hidden: 0.75, weight: 2e-05 times values" in lines


def test_keys_of_the_row_win(recipe):
    found = recipe("[{kind: cwd, compat: paper-logits, temperature: 2, weight: 7}]")
    lines = check(found)
    (row,) = [line for line in lines if line.startswith("cwd ")]
    assert " 7 " in f"{row} "
    assert lines[lines.index(row) + 1] == (
        "distil.terms.0: cwd as in paper-logits is temperature: 4.0, weight: 3; temperature, weight as written there"
    )


def test_unknown_names_are_refused_with_the_known_ones(recipe):
    with pytest.raises(UserError, match=r"r\.yaml:7: distil\.terms\.0\.compat: kd has no settings 'mmraser'\. Did you"):
        check(recipe("[{kind: kd, compat: mmraser}]"))
    with pytest.raises(UserError, match=r"review has no settings 'x'\. It has none\."):
        check(recipe("[{kind: review, compat: x}]"))


def test_show_says_what_they_mean(recipe, capsys, monkeypatch):
    source = recipe("[{kind: attention, compat: paper, at: encoder.1}]").root / "r.yaml"
    monkeypatch.setattr(sys, "argv", ["limbeck", "show", str(source)])
    cli.main()
    assert "# distil.terms.0: attention as in paper is weight: 1000\n" in capsys.readouterr().out
