import numpy as np
import pytest
import torch

from limbeck.artifact.preprocess import Preprocess
from limbeck.data.sample import VOID, Sample
from limbeck.data.transforms import GREY, Augmentation, fitted_size, input_size
from limbeck.recipe import Augment, Resize

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def drawn(augmentation, sample, seed=0):
    with torch.random.fork_rng(devices=[]):
        return augmentation(sample, torch.manual_seed(seed))


def coded(height=48, width=64, dtype=np.uint8):
    """An image that says in its pixels what its mask holds: four blocks of one colour each."""
    target = np.zeros((height, width), dtype)
    target[: height // 2, width // 2 :] = 1
    target[height // 2 :, : width // 2] = 2
    target[height // 2 :, width // 2 :] = 3
    image = np.asarray([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 250]], np.uint8)[target.astype(int)]
    return Sample(image, target, "coded")


def read_code(image):
    """The label that each pixel of an image claims to have, -1 where it is a mixture or padding."""
    bright = image > 0.75
    dark = image < 0.25
    clear = (bright | dark).all(0)
    label = torch.full(image.shape[1:], -1)
    for number, colour in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]):
        label[(bright == torch.tensor(colour, dtype=torch.bool)[:, None, None]).all(0) & clear] = number
    return label


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("mode", ["squash", "keep_ratio"])
@pytest.mark.parametrize("size", [(32, 40), (24, 48), (48, 64)])
def test_image_and_mask_stay_together(size, mode, interpolation):
    augmentation = Augmentation(
        size, Resize(mode=mode, multiple=16, interpolation=interpolation), Augment(scale=(0.4, 2.5), flip=True)
    )
    seen, padded = set(), 0
    for seed in range(30):
        image, target = drawn(augmentation, coded(), seed)
        assert image.shape == (3, *target.shape) == (3, *augmentation.input)
        claimed = read_code(image)
        assert (claimed[target == VOID] == -1).all()
        known = claimed >= 0
        assert torch.equal(claimed[known], target[known])
        assert known.sum() >= 0.75 * (target != VOID).sum()
        seen |= set(target.unique().tolist())
        padded += bool((target == VOID).any())
    assert seen == {0, 1, 2, 3, VOID}
    assert 0 < padded < 30


def test_types():
    for dtype in (np.uint8, np.int64):
        image, target = drawn(
            Augmentation((32, 32), Resize(), Augment(scale=(0.5, 2.0), flip=True)), coded(dtype=dtype)
        )
        assert (image.dtype, target.dtype) == (torch.float32, torch.int64)
        assert type(image) is type(target) is torch.Tensor
        assert 0 <= image.min() <= image.max() <= 1


def test_int64_masks_fare_as_uint8_ones():
    augmentation = Augmentation((30, 50), Resize(), Augment(scale=(0.5, 2.0), flip=True))
    for seed in range(5):
        one, other = (drawn(augmentation, coded(dtype=dtype), seed)[1] for dtype in (np.uint8, np.int64))
        assert torch.equal(one, other)


def test_no_mask_stays_no_mask(picture):
    image, target = drawn(Augmentation((32, 32), Resize(), Augment(flip=True)), Sample(picture(8, 8), None, "x"))
    assert image.shape == (3, 32, 32)
    assert target is None


def test_the_sample_is_left_alone(picture):
    sample = coded()
    image, target = sample.image.copy(), sample.target.copy()
    drawn(Augmentation((48, 64), Resize(), Augment(scale=(0.5, 2.0), flip=True, color=1.0)), sample)
    assert np.array_equal(sample.image, image)
    assert np.array_equal(sample.target, target)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("mode", ["squash", "keep_ratio"])
@pytest.mark.parametrize("multiple", [1, 32])
@pytest.mark.parametrize("image_hw", [(36, 48), (50, 70), (70, 50), (20, 25), (119, 199)])
def test_without_augmentation_it_is_the_preprocessing_of_evaluation(picture, image_hw, multiple, mode, interpolation):
    image = picture(*image_hw) // 2 + 60  # no grey level that a bicubic filter overshoots
    resize = Resize(mode=mode, multiple=multiple, interpolation=interpolation)
    found, _ = drawn(Augmentation((36, 48), resize, Augment()), Sample(image, None, "x"))
    preprocess = Preprocess((36, 48), mode == "keep_ratio", multiple, interpolation=interpolation, **PLAIN)
    expected = torch.from_numpy(preprocess(image))
    assert found.shape == expected.shape
    height, width = preprocess.region(image_hw)
    difference = (found - expected)[:, :height, :width].abs().max().item() * 255
    assert round(difference) <= (0 if interpolation == "nearest" else 1)  # two libraries, two roundings


def test_padding_is_grey_in_the_image_and_void_in_the_mask():
    image, target = drawn(Augmentation((40, 40), Resize(mode="keep_ratio", multiple=32), Augment()), coded(20, 40))
    assert image.shape == (3, 64, 64)
    assert (target[:20, :40] != VOID).all()
    assert (target[20:] == VOID).all()
    assert (target[:, 40:] == VOID).all()
    grey = torch.tensor(GREY)[:, None, None] / 255
    torch.testing.assert_close(image[:, 20:], grey.expand(3, 44, 64))
    torch.testing.assert_close(image[:, :, 40:], grey.expand(3, 64, 24))


def test_grey_is_nothing_once_normalised():
    mean, std = np.asarray((0.485, 0.456, 0.406)), np.asarray((0.229, 0.224, 0.225))
    assert np.abs((np.asarray(GREY) / 255 - mean) / std).max() < 0.02


@pytest.mark.parametrize(
    ("image", "size", "expected"),
    [((100, 100), (32, 48), (32, 32)), ((10, 100), (32, 48), (5, 48)), ((1, 1000), (32, 48), (1, 48))],
)
def test_fitted_size_keeps_the_shape(image, size, expected):
    assert fitted_size(image, size, keep_ratio=True) == expected
    assert fitted_size(image, size, keep_ratio=False) == size
    assert Preprocess(size, keep_ratio=True).region(image) == expected


def test_input_size_is_rounded_up():
    assert input_size((180, 240), Resize(multiple=32)) == (192, 256)
    assert input_size((180, 240), Resize()) == (180, 240)
    assert input_size((180, 240), Resize(multiple=32)) == Preprocess((180, 240), multiple=32).shape


def test_half_of_the_images_are_mirrored():
    augmentation = Augmentation((48, 64), Resize(), Augment(flip=True))
    plain, _ = drawn(Augmentation((48, 64), Resize(), Augment()), coded())
    mirrored = 0
    for seed in range(100):
        image, target = drawn(augmentation, coded(), seed)
        flipped = not torch.equal(image, plain)
        assert torch.equal(image.flip(-1) if flipped else image, plain)
        assert target[0, 0] == int(flipped)
        mirrored += flipped
    assert 35 <= mirrored <= 65


def test_colour_changes_the_image_alone():
    augmentation = Augmentation((48, 64), Resize(), Augment(color=0.8))
    plain = drawn(Augmentation((48, 64), Resize(), Augment()), coded())
    image, target = drawn(augmentation, coded())
    assert torch.equal(target, plain[1])
    assert (image - plain[0]).abs().max() > 0.05
    assert 0 <= image.min() <= image.max() <= 1


def test_zoom_covers_its_range():
    """A block of known width tells the zoom that was drawn."""
    image = np.zeros((64, 64, 3), np.uint8)
    target = np.zeros((64, 64), np.uint8)
    target[28:36, 28:36] = 1
    augmentation = Augmentation((64, 64), Resize(), Augment(scale=(0.5, 2.0)))
    areas = [(drawn(augmentation, Sample(image, target, "x"), seed)[1] == 1).sum().item() for seed in range(60)]
    assert max(areas) > 12 * 12
    assert 0 < min(area for area in areas if area) <= 6 * 6
