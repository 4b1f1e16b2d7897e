import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tf

from limbeck.data import transforms
from limbeck.data.augment import CAMERA, DRAWN, WEATHER, effects
from limbeck.data.augment_camera import blur, gray, jpeg, noise
from limbeck.data.augment_color import photometric
from limbeck.data.augment_weather import dusk, fog, gravel, rain, shadow, snow
from limbeck.data.sample import VOID, Sample
from limbeck.data.sampler import Batches
from limbeck.data.transforms import GREY, Augmentation, fitted_size
from limbeck.data.views import Views, load
from limbeck.recipe import Augment, Resize, Section

EFFECTS = [*WEATHER, *CAMERA, "photometric"]


def on(name, probability=1.0):
    return {name: True if name == "photometric" else {"probability": probability}}


def street(height=60, width=80):
    """Smooth colours with edges, so that every effect has something to change."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 3, columns * 2, (rows + columns) % 200], -1).astype(np.uint8)
    image[height // 2 :, : width // 3] = (200, 60, 30)
    target = ((rows // 20) + (columns // 40)).astype(np.uint8)
    target[:3] = VOID
    return Sample(image, target, "street")


def view(augment, seed=0, sample=None, size=(48, 64)):
    return Augmentation(size, Resize(), Augment(**augment))(sample or street(), torch.Generator().manual_seed(seed))


def as_published(sample, size, augment, seed):
    """Zoom, crop, mirror and colour as results were published with: torchvision's operations on the global stream."""
    rng = torch.manual_seed(seed)
    image = tv_tensors.Image(torch.from_numpy(sample.image.copy()).permute(2, 0, 1))
    mask = tv_tensors.Mask(torch.from_numpy(sample.target.copy())[None])
    low, high = augment.scale
    factor = low + (high - low) * float(torch.rand((), generator=rng))
    zoomed = [max(1, round(side * factor)) for side in fitted_size(sample.image.shape[:2], size, False)]
    places = []
    for side, wanted in zip(zoomed, size, strict=True):
        first, last = sorted((0, side - wanted))
        places.append(int(torch.randint(first, last + 1, (), generator=rng)))
    flip = augment.flip and bool(torch.rand((), generator=rng) < 0.5)
    found = []
    for tensor, fill, mode in (
        (image, [float(value) for value in GREY], v2.InterpolationMode.BILINEAR), (mask, float(VOID), v2.InterpolationMode.NEAREST_EXACT),
    ):  # fmt: skip
        tensor = tf.resize(tensor, zoomed, interpolation=mode, antialias=True)
        tensor = tf.pad(tensor, [size[1], size[0], size[1], size[0]], fill=fill)
        tensor = tf.crop(tensor, places[0] + size[0], places[1] + size[1], *size)
        found.append(tf.horizontal_flip(tensor) if flip else tensor)
    strength = augment.color
    image = v2.ColorJitter(strength, strength, strength, strength / 10)(found[0])
    return image.as_subclass(torch.Tensor).float() / 255, found[1].as_subclass(torch.Tensor)[0].long()


@pytest.mark.parametrize("color", [0.3, 0.4, 1.0])
def test_published_augmentations_stay_as_they_were(picture, color):
    augment = Augment(scale=(0.5, 2.0), flip=True, color=color)
    sample = Sample(picture(60, 80), street().target, "x")
    for seed in range(12):
        with torch.random.fork_rng(devices=[]):
            image, target = as_published(sample, (48, 64), augment, seed)
        found = Augmentation((48, 64), Resize(), augment)(sample, torch.Generator().manual_seed(seed))
        assert torch.equal(found[0], image)
        assert torch.equal(found[1], target)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_changes_the_image_alone(name):
    geometry = {"scale": (0.5, 2.0), "flip": True, "color": 0.2}
    changed = 0
    for seed in range(8):
        plain, target = view(geometry, seed)
        image, same = view(geometry | on(name), seed)
        assert torch.equal(same, target)
        assert (image.shape, image.dtype) == (plain.shape, torch.float32)
        assert image.is_contiguous()
        assert 0 <= image.min() <= image.max() <= 1
        changed += not torch.equal(image, plain)
    assert changed >= 6


@pytest.mark.parametrize("name", [*WEATHER, *CAMERA])
def test_probability_counts(name):
    plain = view({})[0]
    assert torch.equal(view(on(name, 0.0))[0], plain)
    happened = sum(not torch.equal(view(on(name, 0.3), seed)[0], plain) for seed in range(200))
    assert 38 <= happened <= 82  # 60 expected, three standard deviations


@pytest.mark.parametrize("name", EFFECTS)
def test_views_are_functions_of_seed_index_and_view(name, samples):
    augmentation = Augmentation((16, 24), Resize(), Augment(scale=(0.5, 2.0), **on(name)))
    views = Views(samples(6), augmentation, seed=3)
    keys = [(index, epoch) for index in range(6) for epoch in range(2)]
    found = {key: views[key]["image"] for key in keys}
    for key in reversed(keys):
        np.random.rand(3)
        torch.rand(3)
        assert torch.equal(views[key]["image"], found[key])
    assert len({image.numpy().tobytes() for image in found.values()}) == 12


def test_all_effects_in_workers(samples):
    everything = {key: value for name in EFFECTS for key, value in on(name, 0.5).items()}
    views = Views(samples(8), Augmentation((16, 24), Resize(), Augment(**everything)), seed=1)
    batches = Batches(8, 4, 1, 0, 4)
    pairs = zip(load(views, batches, 0), load(views, batches, 2), strict=True)
    assert all(torch.equal(one["image"], other["image"]) for one, other in pairs)


def test_what_an_effect_draws_depends_on_no_other():
    alone = view({"rain": {"probability": 1}}, 5)[0]
    for other in ("dusk", "fog", "blur", "jpeg"):
        assert torch.equal(view({"rain": {"probability": 1}, other: {"probability": 0}}, 5)[0], alone)


def test_streams_keep_their_numbers():
    """The position in this list is a seed: a new effect anywhere but at its end would change all published ones."""
    first = ("photometric", "dusk", "shadow", "fog", "rain", "snow", "blur", "noise", "jpeg", "gravel", "gray")
    assert DRAWN[: len(first)] == first


def test_every_key_is_an_effect():
    sections = {
        name
        for name, field in Augment.model_fields.items()
        if any(
            isinstance(part, type) and issubclass(part, Section) for part in getattr(field.annotation, "__args__", ())
        )
    }
    assert sections == {*WEATHER, *CAMERA}


@pytest.mark.parametrize("change", [dusk, fog, gravel, rain, snow, shadow, noise])
def test_more_strength_is_more_change(change):
    image = street(120, 160).image
    far = [
        np.abs(change(image, strength, np.random.default_rng(0)).astype(float) - image).mean()
        for strength in (0.0, 0.3, 1.0)
    ]
    assert far[0] < 1.0
    assert far[0] < far[1] < far[2]


def test_fog_takes_contrast_and_most_of_it_far_away():
    image = np.tile(np.asarray([0, 255], np.uint8)[None, :, None], (120, 80, 3))
    rows = fog(image, 0.5, np.random.default_rng(1)).astype(float).std(1).mean(-1)
    assert rows[:20].mean() < 0.5 * rows[-20:].mean() < 0.5 * 127.5


def test_gravel_lies_on_the_ground_and_is_lighter_or_darker_than_it():
    image = np.full((320, 640, 3), (120, 110, 100), np.uint8)
    changed = gravel(image, 1.0, np.random.default_rng(0)).astype(int) - image
    assert not changed[:120].any()
    stones = changed[changed.any(-1)]
    assert (stones == stones[:, :1]).all()  # stones are of the ground's colour
    assert 0.005 < len(stones) / (320 * 640) < 0.1
    assert -90 <= stones.min() < -60
    assert 60 < stones.max() <= 90


def test_gray_is_the_luma_of_bt601():
    image = street().image
    found = gray(image)
    assert (found == found[..., :1]).all()
    np.testing.assert_allclose(found[..., 0], image @ np.asarray([0.299, 0.587, 0.114]), atol=0.6)
    assert view({"gray": 1})[0].std(0).max() == 0


def test_dusk_is_dark_and_blue():
    grey = np.full((8, 8, 3), 180, np.uint8)
    red, green, blue = dusk(grey, 0.7, np.random.default_rng(0)).reshape(-1, 3).mean(0)
    assert red < green < blue < 120


@pytest.mark.parametrize(("level", "strength"), [(128, 0.5), (100, 0.2), (160, 0.8)])
def test_noise_has_the_variance_of_its_formula(level, strength):
    grey = np.full((200, 200, 3), level, np.uint8)
    found = noise(grey, strength, np.random.default_rng(0)).astype(float)
    expected = np.sqrt(4 * strength**2 * level + (19 * strength) ** 2 + 1 / 12)
    assert found.std() == pytest.approx(expected, rel=0.02)
    assert found.mean() == pytest.approx(level, abs=0.3)
    assert abs(np.corrcoef(found[..., 0].ravel(), found[..., 1].ravel())[0, 1]) < 0.02


def test_blur_spreads_a_point_by_its_sigma():
    image = np.zeros((61, 61, 3), np.uint8)
    image[30, 30] = 255
    found = blur(np.repeat(np.repeat(image[20:41, 20:41], 3, 0), 3, 1), 4.0)[..., 0].astype(float)
    at = np.arange(63) - 31
    spread = (found.sum(0) * at**2).sum() / found.sum()
    assert spread == pytest.approx(4.0**2 + (3**2 - 1) / 12, rel=0.12)


def test_jpeg_is_pillows():
    image, file = street().image, io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    assert np.array_equal(jpeg(image, 40), np.asarray(Image.open(file)))


def distorted(pixels, rng):
    """mmseg's order with exact hues, pixel by pixel; draws as ours does."""
    pixels = np.clip(pixels + (rng.uniform(-32, 32) if rng.random() < 0.5 else 0), 0, 255)
    late = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    turn = int(rng.integers(-18, 18)) / 180 if rng.random() < 0.5 else 0.0
    pixels = pixels if late else np.clip(pixels * contrast, 0, 255)
    found = np.empty_like(pixels)
    for place in np.ndindex(pixels.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(pixels[place] / 255))
        found[place] = np.asarray(colorsys.hsv_to_rgb((h + turn) % 1, min(1, s * saturation), v)) * 255
    return np.clip(found * contrast, 0, 255) if late else found


def test_photometric_is_mmsegs_order():
    image = street(12, 16).image
    changed = 0
    for seed in range(40):
        found = photometric(torch.from_numpy(image).permute(2, 0, 1), np.random.default_rng(seed))
        expected = distorted(image.astype(float), np.random.default_rng(seed))
        assert np.abs(found.permute(1, 2, 0).numpy() - expected).mean() < 2.5  # bytes of hue and saturation
        changed += np.abs(expected - image).mean() > 5
    assert 20 <= changed < 40


def test_photometric_leaves_grey_grey():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    values = []
    for seed in range(400):
        found = photometric(grey, np.random.default_rng(seed))
        assert found.min() == found.max()
        values.append(int(found[0, 0, 0]))
    assert 70 <= values.count(100) <= 140  # neither brightness nor contrast in a quarter
    assert min(values) >= 34
    assert max(values) <= 198


def half_road(share=0.9):
    target = np.zeros((100, 100), np.uint8)
    target[: round(100 * (1 - share))] = 1
    return Sample(np.zeros((100, 100, 3), np.uint8), target, "road")


def shares(target):
    counts = np.bincount(target[target != VOID])
    return counts.max() / counts.sum() if (counts > 0).sum() > 1 else 1.0


def test_a_class_takes_no_more_than_its_share():
    plain, chosen = [], []
    for seed in range(60):
        plain.append(shares(view({"scale": (2.0, 2.0)}, seed, half_road(0.7), (50, 50))[1].numpy()))
        chosen.append(shares(view({"scale": (2.0, 2.0), "max_share": 0.75}, seed, half_road(0.7), (50, 50))[1].numpy()))
    assert sum(share >= 0.75 for share in plain) > 20
    assert sum(share >= 0.75 for share in chosen) < 5  # ten bad crops in a row


def test_the_share_needs_no_more_tries_than_ten(monkeypatch):
    monkeypatch.setattr(transforms, "TRIES", 1000)
    for seed in range(40):
        target = view({"scale": (2.0, 2.0), "max_share": 0.75}, seed, half_road(0.7), (50, 50))[1].numpy()
        assert shares(target) < 0.75
    monkeypatch.setattr(transforms, "TRIES", 10)
    one_class = Sample(np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8), "x")
    assert (view({"scale": (1.0, 2.0), "max_share": 0.5}, 0, one_class)[1] == 0).all()  # and comes to an end


def test_the_first_crop_that_will_do_is_taken():
    """Where the first crop is good enough, nothing else is drawn: the view is the one without ``max_share``."""
    same = 0
    for seed in range(30):
        image, target = view({"scale": (2.0, 2.0), "flip": True}, seed, half_road(0.5), (50, 50))
        if shares(target.numpy()) < 0.75:
            again = view({"scale": (2.0, 2.0), "flip": True, "max_share": 0.75}, seed, half_road(0.5), (50, 50))
            assert torch.equal(again[1], target)
            assert torch.equal(again[0], image)
            same += 1
    assert same > 5


def test_image_and_mask_of_a_chosen_crop_stay_together():
    for seed in range(20):
        sample = street(100, 100)
        coded = Sample((sample.target % 4 * 60)[..., None].repeat(3, -1), sample.target % 4, "coded")
        image, target = view({"scale": (1.5, 3.0), "flip": True, "max_share": 0.6}, seed, coded)
        claimed = (image[0] * 255 / 60).round().long()
        assert (claimed == target)[target != VOID].float().mean() > 0.9


def test_images_without_truth_have_no_share():
    sample = Sample(street().image, None, "x")
    assert view({"scale": (1.0, 2.0), "max_share": 0.5}, 0, sample)[1] is None


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_channels_stay_beside_the_colours(picture, channels):
    image = np.concatenate([picture(60, 80), picture(60, 80, 1)], -1)[..., :channels]
    geometry = {"scale": (0.5, 2.0), "flip": True}
    for seed in range(4):
        plain = view(geometry, seed, Sample(image, None, "x"))[0]
        found = view(geometry | {"color": 0.5} | on("noise"), seed, Sample(image, None, "x"))[0]
        assert found.shape == plain.shape == (channels, 48, 64)
        beyond = 3 if channels > 3 else 1
        assert torch.equal(found[beyond:], plain[beyond:])
        assert not torch.equal(found[:beyond], plain[:beyond])


def test_effects_leave_their_input_alone():
    image = torch.from_numpy(street().image.copy()).permute(2, 0, 1)
    before = image.clone()
    effects(image, Augment(**{key: value for name in EFFECTS for key, value in on(name).items()}), 7)
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rain": {"strength": [0.1, 0.2]}}, "probability"),
        ({"rain": 1.5}, "less than or equal to 1"),
        ({"rain": True}, "valid dictionary"),
        ({"fog": {"probability": 0.1, "strength": [0.8, 0.2]}}, r"such as \[0.2, 0.8\]"),
        ({"jpeg": {"probability": 0.1, "quality": [0, 50]}}, "greater than or equal to 1"),
        ({"blur": {"probability": 0.1, "sigma": [0, 1]}}, "greater than 0"),
        ({"max_share": 0.75}, "without scale"),
        ({"max_share": 0.0, "scale": [1, 2]}, "greater than 0"),
    ],
)
def test_what_a_recipe_may_not_say(given, message):
    with pytest.raises(ValueError, match=message):
        Augment(**given)


def test_a_number_is_a_probability():
    assert Augment(rain=0.2) == Augment(rain={"probability": 0.2})
    assert Augment(jpeg=1).jpeg.quality == (30, 90)
