"""Who learns what from whom, as a recipe says it."""

import pytest

from limbeck.place import dump
from limbeck.recipe import read
from limbeck.recipe.lesson import lesson, seats, sides
from limbeck.record import UserError
from limbeck.run import _forced
from limbeck.stages.context import Context
from limbeck.stages.licences import terms
from limbeck.stages.plan import plan
from limbeck.stages.replay import form_of
from limbeck.train.keep import Top, Whole

HEAD = """\
name: x
data: {kind: scenes, size: [32, 32], training: 4, validation: 4, batch: 2}
student: {kind: compact_unet}
train: {steps: 3}
"""
CHAIN = (
    HEAD
    + """\
teacher:
  - kind: compact_unet
    name: assistant
    train: {steps: 5}
    teacher: {kind: compact_unet, name: big, width: 32, min_metric: 3}
    distil:
      - {kind: kd}
  - {kind: ema, name: own, decay: 0.9}
distil:
  - {kind: kd}
  - {kind: kd, at: "logits -> assistant:logits"}
  - {kind: cwd, at: "logits -> own:logits"}
  - {kind: cwd, at: encoder.1 -> assistant:encoder.2}
quantize: {kind: pt2e, qat: {steps: 1, control: true}}
"""
)


@pytest.fixture
def recipe(tmp_path):
    def make(text, *overrides):
        (tmp_path / "r.yaml").write_text(text)
        return read(tmp_path / "r.yaml", list(overrides))

    return make


@pytest.fixture
def message(recipe):
    def said(text, *overrides):
        with pytest.raises(UserError) as error:
            recipe(text, *overrides)
        return str(error.value).partition("r.yaml")[2]

    return said


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("logits", ("logits", None, "logits")),
        ("a.0 -> b.1", ("a.0", None, "b.1")),
        ("a.0 -> big:b.1", ("a.0", "big", "b.1")),
        ("big:b.1", ("b.1", "big", "b.1")),
    ],
)
def test_sides_of_a_term(at, expected):
    assert sides(at) == expected


def test_who_teaches_another_comes_first(recipe):
    found = seats(recipe(CHAIN))
    assert list(found) == ["teacher-big", "teacher-assistant"]
    assert str(found["teacher-big"].where).endswith("r.yaml:9: teacher.0.teacher")
    assert (found["teacher-big"].section.train.steps, found["teacher-assistant"].section.train.steps) == (3, 5)


def test_what_each_learns(recipe):
    found = recipe(CHAIN)
    student, assistant = lesson(found, "student"), lesson(found, "teacher-assistant")
    assert [seat.name for seat in student.seats] == ["assistant", "own"]
    assert student.places("logits") == ("assistant:logits", "own:logits")
    assert student.places("a -> own:b") == ("own:b",)
    assert student.paths(student.seats[0]) == ["logits", "encoder.2"]
    assert student.paths(student.seats[1]) == ["logits"]
    assert [seat.name for seat in assistant.seats] == ["big"]
    assert str(assistant.row(0)).endswith("r.yaml:11: teacher.0.distil.terms.0")
    assert not lesson(found, "teacher-big").rows
    assert not lesson(found, "student-baseline").seats


@pytest.mark.parametrize("role", ["qat", "quantize", "student-longer"])
def test_integers_learn_from_the_logits_of_networks_alone(recipe, role):
    found = lesson(recipe(CHAIN), role)
    assert [(index, found.places(row.at)) for index, row in found.rows] == [
        (0, ("assistant:logits",)),
        (1, ("assistant:logits",)),
    ]


def test_a_single_teacher_is_what_it_was(recipe):
    text = HEAD + "teacher: {kind: compact_unet}\ndistil: [{kind: kd}]\n"
    found = recipe(text)
    assert list(seats(found)) == ["teacher"]
    assert lesson(found, "student").places("a -> b") == ("b",)
    assert isinstance(found.resolved()["teacher"], dict)
    assert recipe(HEAD).resolved()["teacher"] is None


def test_a_resolved_recipe_says_the_same(recipe):
    found = recipe(CHAIN)
    assert recipe(dump(found.resolved())).resolved() == found.resolved()


def test_terms_of_a_teacher_are_changed_from_the_command_line(recipe):
    found = recipe(CHAIN, "teacher.0.distil.0.weight=2", "teacher.0.teacher.seed=4")
    assert found.teacher[0].distil.terms[0].weight == 2
    assert found.teacher[0].teacher[0].seed == 4


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("assistant:logits", "asistant:logits"), ":15: distil.terms.1.at: no teacher 'asistant' here. Did you mean"),
        (("assistant:logits", "big:logits"), ":15: distil.terms.1.at: no teacher 'big' here. There are assistant, own."),
        (("name: big", "name: assistant"), ":7: teacher.0.name: 'assistant' is the name of"),
        (("name: big, ", ""), ":9: teacher.0.teacher: one of 3 teachers; each needs a name"),
        (("decay: 0.9", "weights: a.pt"), ":12: teacher.1: kind: ema is the student's own average and has no 'weights'"),
        (("decay: 0.9", "deacy: 0.9"), ":12: teacher.1: kind: ema is the student's own average and has no 'deacy'. Did"),
        (("decay: 0.9", "decay: 1"), ":12: teacher.1.decay: Input should be less than 1"),
        (("width: 32", "decay: 0.5"), ":9: teacher.0.teacher: decay is for kind: ema"),
        (("- {kind: kd}\n  - {kind: ema", "[]\n  - {kind: ema"), ":6: teacher.0: teacher inside a teacher needs distil"),
        (("{kind: kd}\n  - {kind: kd", "{kind: cwd, combine: confidence, at: a}\n  - {kind: kd"), ":14: distil.terms.0.combine"),
        (("kind: cwd, at: \"logits", "kind: cwd, combine: confidence, at: \"logits"), ":16: distil.terms.2.combine"),
        (("{kind: ema, name: own, decay: 0.9}", "{kind: ema, name: own}\n  - {kind: ema, name: me}"), ":13: teacher.2: a second"),
        (("min_metric: 3", "weights: a.pt, distil: [{kind: kd}]"), ":9: teacher.0.teacher: distil inside a teacher needs"),
        (("min_metric: 3", "classes: {a: b}"), ":9: teacher.0.teacher: a teacher trained here has the data's classes"),
        (("    train: {steps: 5}\n", "    weights: a.pt\n"), ":6: teacher.0: a teacher that is taken as it is learns"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(message, change, wanted):
    text = CHAIN.replace(*change, 1)
    assert text != CHAIN
    assert message(text).startswith(wanted)


def test_a_window_that_a_teacher_cannot_fill_is_refused(message):
    text = CHAIN.replace("width: 32", "input_size: [16, 16]") + "evaluate: {slide: {overlap: 0}}\n"
    assert ":9: teacher.0.teacher.input_size: evaluate.slide moves by [32, 32]" in message(text)


def test_a_teacher_of_its_own_seed_does_not_mind_the_recipes(recipe, tmp_path):
    def prints(*overrides):
        return {name: s.fingerprint for name, s in plan(Context(recipe(CHAIN, *overrides), tmp_path / "run")).items()}

    seeded = ("teacher.0.seed=0", "teacher.0.teacher.seed=0")
    first, second, bare = prints(*seeded), prints(*seeded, "seed=1"), prints()
    for role in ("teacher-big", "teacher-assistant"):
        assert first[role] == second[role] == bare[role] != prints("seed=1")[role]
    assert first["student"] != second["student"]


def test_how_a_teacher_teaches_is_read_by_the_student_alone(recipe, tmp_path):
    def prints(*overrides):
        return {name: s.fingerprint for name, s in plan(Context(recipe(CHAIN, *overrides), tmp_path / "run")).items()}

    plain = prints()
    for change in ("teacher.0.precision=bf16", "teacher.1.decay=0.5"):
        other = prints(change)
        assert other["teacher-assistant"] == plain["teacher-assistant"]
        assert other["student"] != plain["student"]
    other = prints("teacher.0.teacher.precision=bf16")
    assert other["teacher-big"] == plain["teacher-big"]
    assert other["teacher-assistant"] != plain["teacher-assistant"]


def test_a_chain_is_one_thing_after_another(recipe, tmp_path):
    stages = plan(Context(recipe(CHAIN), tmp_path / "run"))
    assert list(stages)[:4] == ["teacher-big", "teacher-assistant", "student", "student-longer"]
    assert list(stages["teacher-assistant"].inputs) == ["teacher-big"]
    assert list(stages["student"].inputs) == ["teacher-assistant"]
    assert set(stages["evaluate"].inputs) >= {"teacher-big", "teacher-assistant", "student"}


def test_licences_follow_the_chain(recipe):
    text = CHAIN.replace("width: 32, min_metric: 3", "weights: org/big").replace(
        "train: {steps: 5}", "train: {steps: 5}"
    )
    found = recipe(text)
    dataset = Context(found, None).dataset("validation")
    for role in ("student", "teacher-assistant", "teacher-big"):
        assert "weights org/big" in terms(found, dataset, role)
    assert "weights org/big" not in terms(found, dataset, "student-baseline")


@pytest.mark.parametrize(
    ("force", "again"),
    [
        ("teacher-big", {"teacher-big", "teacher-assistant", "student", "student-longer", "quantize"}),
        ("teacher-assistant", {"teacher-assistant", "student", "student-longer", "quantize"}),
        ("teacher", {"teacher-big", "teacher-assistant", "student", "student-longer", "quantize"}),
    ],
)
def test_what_builds_on_a_teacher_is_done_again_with_it(recipe, tmp_path, force, again):
    everything = plan(Context(recipe(CHAIN), tmp_path / "run"))
    assert _forced(everything, force) == again | {"export", "evaluate", "bench"}


def test_what_the_average_says_is_never_kept_in_part(recipe):
    found = lesson(recipe(CHAIN, "distil.cache=replay", "distil.keep=3"), "student")
    assert isinstance(form_of(found, [], "own:logits"), Whole)
    assert isinstance(form_of(found, [], "assistant:logits"), Top)
    assert isinstance(form_of(found, [], "assistant:encoder.2"), Whole)
