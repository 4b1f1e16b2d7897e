import pytest
from pydantic import ValidationError

from limbeck.place import dump
from limbeck.recipe import merged, packaged, read
from limbeck.record import UserError

BASE = """\
name: x
data: {kind: scenes, size: [64, 96]}
student: {kind: compact_unet}
train: {steps: 3}
"""

FULL = """\
name: full
seed: 7
data: {kind: scenes, size: [64, 96], training: 12, augment: {scale: [0.5, 2.0], flip: true, color: 0.3}}
teacher: {kind: compact_unet, width: 16, train: {epochs: 2.5, optimizer: {lr: 0.01}}}
student: {kind: compact_unet}
baseline: true
train:
  steps: 9
  batch: 6
  freeze_batch_norm: 0.9
  optimizer: {name: sgd, momentum: 0.8}
  schedule: {name: cosine, warmup: 0.2}
  task: {kind: cross_entropy, class_weights: log_frequency, weight: 0.5}
distil:
  - {kind: kd, at: logits, temperature: 2}
  - {kind: cwd, at: a -> b, schedule: {warmup: 0.1, decay: [0.7, 1.0]}}
quantize:
  - {kind: pt2e, target: openvino, qat: {epochs: 1, optimizer: {lr: 0.001}}}
  - {kind: pt2e, target: onnxruntime}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text, *overrides):
        (tmp_path / "r.yaml").write_text(text)
        return read(tmp_path / "r.yaml", list(overrides))

    return write


@pytest.fixture
def message(recipe, tmp_path):
    """What is said about a recipe that is wrong."""

    def said(text, *overrides):
        with pytest.raises(UserError) as caught:
            recipe(text, *overrides)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return said


def test_defaults(recipe):
    found = recipe(BASE)
    assert (found.name, found.seed, found.task.kind) == ("x", 0, "segmentation")
    assert [export.kind for export in found.export] == ["onnx"]
    assert found.quantize == []
    assert found.train.optimizer.name == "adamw"
    assert found.data.spec == {"kind": "scenes"}


def test_reserved_keys_are_the_sections_and_the_rest_the_components(recipe):
    found = recipe(FULL)
    assert found.data.spec == {"kind": "scenes", "training": 12}
    assert found.teacher[0].spec == {"kind": "compact_unet", "width": 16}
    assert found.train.task[0].spec == {"kind": "cross_entropy", "class_weights": "log_frequency"}
    assert found.train.task[0].weight == 0.5
    assert found.distil.terms[0].spec == {"kind": "kd", "temperature": 2}
    assert found.quantize[0].spec == {"kind": "pt2e", "target": "openvino"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BASE + "benhc: {}\n", "r.yaml:5: benhc: unknown key 'benhc'. Did you mean 'bench'?"),
        (BASE.replace("steps", "stepps"), "r.yaml:4: train.stepps: unknown key 'stepps'. Did you mean 'steps'?"),
        (BASE + "bench: {batches: [0]}\n", "r.yaml:5: bench.batches.0: "),
        (BASE + "seed: -1\n", "r.yaml:5: seed: Input should be greater than or equal to 0, got -1."),
        (BASE + "seed: 99999999999999\n", "r.yaml:5: seed: Input should be less than 4294967296"),
        (BASE.replace("[64, 96]", "[64]"), "r.yaml:2: data.size.1: "),
        (BASE.replace("[64, 96]", "[8, 96]"), "r.yaml:2: data.size.0: Input should be greater than or equal to 16"),
        (BASE.replace("steps: 3", "steps: three"), "r.yaml:4: train.steps: Input should be a valid integer"),
        (BASE.replace("{steps: 3}", "3"), "r.yaml:4: train: Input should be a valid dictionary"),
        (BASE.replace("steps: 3", "steps: 3, epochs: 2"), "r.yaml:4: train: give either epochs or steps."),
        (BASE.replace("{steps: 3}", "{}"), "r.yaml:4: train: give either epochs or steps."),
        (BASE.replace("{kind: compact_unet}", "{}"), "r.yaml:3: student.kind: this key is required and missing."),
        (BASE.partition("student")[0], "r.yaml: student: this key is required and missing."),
        (BASE + "distil: [{at: logits}]\n", "r.yaml:5: distil.terms.0.kind: this key is required and missing."),
        (BASE + "distil: [{kind: kd, at: []}]\n", "r.yaml:5: distil.terms.0.at: at is logits, a path,"),
        (
            BASE + "distil: [{kind: kd, schedule: {warmup: 20}}]\n",
            "r.yaml:5: distil.terms.0.schedule: shares of all steps are at most 1;",
        ),
        (
            BASE + "distil: [{kind: kd, schedule: {decay: [0.9, 0.5]}}]\n",
            "r.yaml:5: distil.terms.0.schedule: decay ends at 0.5, before it begins at 0.9",
        ),
        (
            BASE + "distil: [{kind: kd, schedule: {start: 0.5, stop: 0.5}}]\n",
            "r.yaml:5: distil.terms.0.schedule: stop 0.5 is not after start 0.5",
        ),
        (
            BASE + "distil: [{kind: kd, schedule: {start: 0.5, decay: [0, 0.1]}}]\n",
            "r.yaml:5: distil.terms.0.schedule: decay ends at 0.1, not after start 0.5: the weight would always be 0",
        ),
        (
            BASE + "distil: [{kind: kd, schedule: {start: 1}}]\n",
            "r.yaml:5: distil.terms.0.schedule: start 1 is the end of the training",
        ),
        (BASE + "distil: [{kind: kd, at: -> logits}]\n", "r.yaml:5: distil.terms.0.at: at is logits, a path,"),
        (BASE + "distil: [{kind: kd, at: 'a -> big:'}]\n", "r.yaml:5: distil.terms.0.at: at is logits, a path,"),
        (BASE + "distil: [{kind: kd, at: a -> b -> c}]\n", "r.yaml:5: distil.terms.0.at: at is logits, a path,"),
        (
            BASE + "distil: [{kind: kd, weight: .inf}]\n",
            "r.yaml:5: distil.terms.0.weight: Input should be a finite number, got inf.",
        ),
        (BASE + "distil: {keep: true}\n", "r.yaml:5: distil.keep: keep is `full`"),
        (BASE + "distil: {cache: replai}\n", "r.yaml:5: distil.cache: Input should be 'online' or 'replay'"),
        (BASE + "distil: {keep: none}\n", "r.yaml:5: distil.keep: keep is `full`, or how many of the most likely"),
        (BASE + "distil: {keep: 0}\n", "r.yaml:5: distil.keep: keep is `full`"),
        (BASE + "name: y\n", "r.yaml:5: duplicate key 'name'; it is already on line 1."),
        (BASE + "seed: !x 3\n", "r.yaml:5: found '!x'"),
        (BASE + "seed: ]\n", "r.yaml:5: YAML syntax"),
    ],
)
def test_mistakes_are_named_with_their_line(message, text, wanted):
    assert message(text).startswith(wanted)


def test_all_mistakes_at_once(message):
    lines = message(BASE.replace("steps: 3", "stepps: 3") + "seed: x\nbaseline: perhaps\n").splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["r.yaml:5", "r.yaml:6", "r.yaml:4"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("student: {kind: compact_unet}", "student: {kind: compact_unet}\nbaseline: true"), "baseline repeats"),
        (("train: {steps: 3}\n", ""), "the student has neither weights nor a train section"),
        (("train: {steps: 3}", "train: {steps: 3}\ndistil: [{kind: kd}]"), "distil needs a teacher"),
        (
            ("train: {steps: 3}", "train: {steps: 3}\nevaluate: {scales: [0.5, 1]}"),
            "files for onnxruntime, openvino keep",
        ),
        (
            ("train: {steps: 3}", "train: {steps: 3}\nquantize: {kind: pt2e}\nevaluate: {scales: [2]}"),
            "integer files keep",
        ),
        (("train: {steps: 3}", "train: {steps: 3}\nevaluate: {slide: {stride: [64, 97]}}"), "leaves gaps"),
        (
            ("{kind: compact_unet}\ntrain: {steps: 3}", "{kind: x, weights: w}\nteacher: {kind: x}"),
            "the teacher has neither",
        ),
        (("{kind: compact_unet}", "{kind: compact_unet, train: {steps: 9}}"), "train and min_metric inside student"),
    ],
)
def test_what_does_not_belong_together(message, change, wanted):
    assert wanted in message(BASE.replace(*change))


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "/tmp/x", ".hidden", "'a\\\\b'", '""', "'x y'", "x" * 101])
def test_names_that_would_leave_the_runs_folder_are_refused(message, name):
    assert message(BASE.replace("name: x", f"name: {name}")).startswith("r.yaml:1: name: ")


@pytest.mark.parametrize("name", ["a", "camvid-quick", "2024.run_1", "x" * 100])
def test_names_that_are_fine(recipe, name):
    assert recipe(BASE.replace("name: x", f"name: {name}")).name == name


def test_overrides_are_applied_and_checked(recipe, message):
    found = recipe(BASE, "train.optimizer.lr=3e-4", "data.size.0=32", "name=y", "data.augment.flip=true")
    assert (found.train.optimizer.lr, found.data.size, found.name) == (3e-4, (32, 96), "y")
    assert found.data.augment.flip is True
    assert "train.stpes: unknown key 'stpes'. Did you mean 'steps'?" in message(BASE, "train.stpes=3")
    assert "data.size.7 does not exist; the list has 2 entries" in message(BASE, "data.size.7=3")


def test_an_overridden_key_has_no_line_in_the_file(message):
    assert message(BASE + "seed: 3\n", "seed=-3").startswith("r.yaml: seed: Input should be")


def test_epochs_and_steps_replace_each_other():
    assert merged({"steps": 3, "ema": 0.9}, {"epochs": 2}) == {"ema": 0.9, "epochs": 2}
    assert merged({"epochs": 3}, {"steps": 2}) == {"steps": 2}
    assert merged({"epochs": 3}, {"ema": 0.5}) == {"epochs": 3, "ema": 0.5}
    below = {"optimizer": {"lr": 1, "name": "sgd"}, "epochs": 3}
    assert merged(below, {"optimizer": {"lr": 2}}) == {"optimizer": {"lr": 2, "name": "sgd"}, "epochs": 3}
    assert below == {"optimizer": {"lr": 1, "name": "sgd"}, "epochs": 3}


SEVERAL = BASE.replace("3}", "3, task: [{kind: cross_entropy}, {kind: dice, weight: 0.5}]}")


def test_several_losses_on_the_labels(recipe):
    found = recipe(SEVERAL, "train.task.1.weight=0.25")
    assert [(loss.kind, loss.weight) for loss in found.train.task] == [("cross_entropy", 1.0), ("dice", 0.25)]
    assert [loss["kind"] for loss in found.resolved()["train"]["task"]] == ["cross_entropy", "dice"]
    assert recipe(SEVERAL, "train.task={kind: dice}").train.task[0].spec == {"kind": "dice"}


def test_a_single_loss_stays_a_mapping(recipe):
    found = recipe(BASE.replace("3}", "3, task: {kind: dice}}"), "train.task.weight=0.5")
    assert [(loss.kind, loss.weight) for loss in found.train.task] == [("dice", 0.5)]
    task = found.resolved()["train"]["task"]
    assert (task["kind"], task["weight"], task["schedule"]["unit"]) == ("dice", 0.5, "share")
    assert recipe(BASE).resolved()["train"]["task"].items() >= {"kind": "cross_entropy", "weight": 1.0}.items()


def test_wrong_losses_are_named(message):
    for task, said in (
        ("{\n weight: -1}", "r.yaml:5: train.task.weight: Input should be greater than or equal to 0"),
        ("[{kind: dice},\n {weight: -1}]", "r.yaml:5: train.task.1.weight: Input should be greater"),
        ("[]", "r.yaml:4: train.task: Value should have at least 1 item"),
    ):
        assert said in message(BASE.replace("3}", f"3, task: {task}}}"))


def test_another_kind_replaces_the_loss(recipe):
    assert merged({"task": {"kind": "a", "x": 1}}, {"task": {"kind": "b"}}) == {"task": {"kind": "b"}}
    assert merged({"task": {"kind": "a", "x": 1}}, {"task": {"x": 2}}) == {"task": {"kind": "a", "x": 2}}
    assert merged({"task": {"kind": "a"}}, {"task": [{"kind": "b"}]}) == {"task": [{"kind": "b"}]}


def test_teacher_and_qat_inherit_train(recipe):
    found = recipe(FULL)
    teacher, qat = found.teacher[0].train, found.quantize[0].qat
    assert (teacher.epochs, teacher.steps, teacher.batch) == (2.5, None, 6)
    assert (teacher.optimizer.name, teacher.optimizer.lr, teacher.optimizer.momentum) == ("sgd", 0.01, 0.8)
    assert (qat.epochs, qat.steps, qat.batch) == (1, None, 6)
    assert (qat.optimizer.name, qat.optimizer.lr, qat.schedule.warmup) == ("sgd", 0.001, 0.2)
    assert qat.task == found.train.task
    assert qat.freeze_observers == 0.5
    assert found.quantize[1].qat is None


def test_qat_is_always_fp32(recipe):
    text = FULL.replace("  steps: 9", "  steps: 9\n  precision: bf16")
    assert recipe(text).train.precision == "bf16"
    assert recipe(text).quantize[0].qat.precision == "fp32"


def test_qat_freezes_batch_norm_by_default(recipe):
    text = BASE + "quantize: {kind: pt2e, qat: {steps: 2}}\n"
    assert recipe(text).quantize[0].qat.freeze_batch_norm == 0.33
    assert recipe(FULL).quantize[0].qat.freeze_batch_norm == 0.9


def test_a_teacher_with_weights_is_used_as_it_is(recipe):
    text = FULL.replace("width: 16, train: {epochs: 2.5, optimizer: {lr: 0.01}}", "width: 16, weights: some-name")
    assert recipe(text).teacher[0].train is None
    assert recipe(text, "teacher.train.steps=4").teacher[0].train.steps == 4


def test_a_single_mapping_is_a_list_of_one(recipe):
    found = recipe(BASE + "quantize: {kind: pt2e}\nexport: {kind: onnx, dynamic: [height]}\n")
    assert len(found.quantize) == len(found.export) == 1
    none = recipe(BASE + "quantize: null\nexport: []\nbench: null\n")
    assert (none.quantize, none.export, none.bench) == ([], [], None)


@pytest.mark.parametrize("text", [BASE, FULL, BASE + "quantize: {kind: pt2e, qat: {epochs: 3}}\nbench: null\n"])
def test_a_resolved_recipe_reads_as_itself(recipe, tmp_path, text):
    found = recipe(text)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(dump(found.resolved()))
    again = read(tmp_path / "run" / "recipe.yaml")
    assert again.resolved() == found.resolved()
    assert dump(again.resolved()) == dump(found.resolved())
    assert read(tmp_path / "run").resolved() == found.resolved()  # a run's folder names its recipe


@pytest.mark.parametrize("name", sorted(packaged()))
def test_packaged_recipes_resolve_to_themselves(recipe, name):
    found = read(name)
    assert recipe(dump(found.resolved())).resolved() == found.resolved()


def test_code_and_weights_are_found_beside_the_recipe(recipe, tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"")
    text = BASE.replace("{kind: compact_unet}", "{kind: ./models.py:build, weights: w.pth}")
    monkeypatch.chdir("/")
    found = recipe(text)
    assert found.student.kind == f"{tmp_path}/models.py:build"
    assert found.student.weights == f"{tmp_path}/w.pth"
    assert found.root == tmp_path
    assert recipe(text.replace("w.pth", "nvidia/mit-b0")).student.weights == "nvidia/mit-b0"


def test_a_recipe_is_frozen(recipe):
    with pytest.raises(ValidationError, match="frozen"):
        recipe(BASE).name = "other"


def test_where_a_recipe_comes_from(recipe, tmp_path):
    assert read("camvid/quick").name == "camvid-quick"
    with pytest.raises(UserError, match=r"camvid/quik: no such recipe\. Did you mean 'camvid/quick'\?.*In the package"):
        read("camvid/quik")
    with pytest.raises(UserError, match="no such recipe"):
        read(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UserError, match=r"b\.yaml: not a text file"):
        read(tmp_path / "b.yaml")


def test_the_place_of_a_recipe(recipe):
    assert str(recipe(BASE).place / "train" / "steps").endswith("r.yaml:4: train.steps")


CODE = """\
name: x
task: {kind: ./mine.py:Task}
data: {kind: scenes, size: [64, 96]}
teacher: {kind: compact_unet, train: {task: {kind: ./mine.py:Loss}}}
student: {kind: compact_unet}
train: {steps: 3, task: {kind: mine.py:Loss}}
quantize:
  kind: pt2e
  calibration: {images: photos}
  qat: {steps: 1, task: {kind: ./mine.py:Loss}}
export: [{kind: ./mine.py:Export}]
"""


def test_code_is_found_beside_the_recipe_wherever_it_is_named(recipe, tmp_path):
    (tmp_path / "photos").mkdir()
    found = recipe(CODE)
    loss = f"{tmp_path}/mine.py:Loss"
    assert (found.task.kind, found.export[0].kind) == (f"{tmp_path}/mine.py:Task", f"{tmp_path}/mine.py:Export")
    assert {section.task[0].kind for section in (found.train, found.teacher[0].train, found.quantize[0].qat)} == {loss}
    assert found.quantize[0].calibration.images == f"{tmp_path}/photos"
    assert recipe(CODE.replace("photos", "elsewhere")).quantize[0].calibration.images == "elsewhere"


def test_entries_of_a_single_mapping_have_an_index(recipe, message):
    text = BASE + "quantize:\n  kind: pt2e\n  target: openvino\nexport: {kind: onnx}\n"
    found = recipe(text, "quantize.0.target=onnxruntime", "export.0.dynamic=[height]", "quantize.calibration.samples=3")
    assert found.quantize[0].spec["target"] == "onnxruntime"
    assert found.quantize[0].calibration.samples == 3
    assert found.export[0].dynamic == ["height"]
    assert recipe(text, "quantize={kind: pt2e}", "quantize.0.target=x").quantize[0].spec["target"] == "x"
    assert "quantize.1 does not exist; the list has 1 entries" in message(text, "quantize.1.target=x")
    wrong = text.replace("  target", "  calibration: {samples: 0}\n  target")
    assert message(wrong, "quantize.0.target=x").startswith("r.yaml:7: quantize.0.calibration.samples: ")
    assert message(wrong).startswith("r.yaml:7: quantize.0.calibration.samples: ")


def test_another_precision_of_qat_is_refused(message):
    text = BASE + "quantize:\n  kind: pt2e\n  qat: {steps: 2, precision: bf16}\n"
    assert message(text).startswith("r.yaml:7: quantize.0.qat.precision: QAT runs in fp32")


def test_ones_own_code_may_bring_its_weights(recipe):
    text = BASE.replace("{kind: compact_unet}", "{kind: ./models.py:build}").replace("train: {steps: 3}\n", "")
    assert recipe(text).train is None


def test_scales_fit_files_of_free_size_and_windows_fit_all(recipe):
    free = "export: {dynamic: [height, width]}\nevaluate: {scales: [0.5, 1]}\n"
    assert recipe(BASE + free).evaluate.scales == [0.5, 1]
    assert recipe(BASE + "bench: {runtimes: [eager]}\nevaluate: {scales: [0.5, 1]}\n").evaluate.scales == [0.5, 1]
    slide = recipe(BASE + "quantize: {kind: pt2e}\nevaluate: {slide: {}, scales: [0.5, 1]}\n").evaluate.slide
    assert slide.strides((64, 96)) == (43, 64)
    assert slide.model_copy(update={"stride": (32, 33)}).strides((64, 96)) == (32, 33)
