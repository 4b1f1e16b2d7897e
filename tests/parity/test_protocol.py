"""Sliding windows, mirrored images and scales against plain torch and against the whole image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.artifact.average import Answer, average, mean_logits
from limbeck.artifact.load import Predictor
from limbeck.artifact.preprocess import Preprocess
from limbeck.artifact.protocol import WHOLE, Protocol, Slide, answered

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def net(classes=5, stride=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride, 1), torch.nn.Tanh(), torch.nn.Conv2d(8, classes, 3, 1, 1)
        )


def predictor(network, size, **more):
    run = torch.no_grad()(lambda pixels: network(torch.from_numpy(pixels)).numpy())
    return Predictor(run, Preprocess(size, mean=MEAN, std=STD, **more))


def predicted(one, protocol, image, batch=3, size=None):
    looks = protocol.looks(one.preprocess, image)
    return average(answered(one.logits, looks, batch), size or image.shape[:2])


def agreeing(a, b):
    return (np.asarray(a) == np.asarray(b)).mean()


def test_scales_and_mirrors_are_averaged_as_in_torch(picture):
    image, network, scales = picture(60, 80), net(), (0.5, 1.0, 1.5)
    found = predicted(predictor(network, (60, 80)), Protocol(flip=True, scales=scales), image)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    total = torch.zeros(1, 5, 60, 80)
    for scale in scales:
        # Pillow's antialiased bilinear filter, which torch has too
        view = F.interpolate(pixels, (round(60 * scale), round(80 * scale)), mode="bilinear", antialias=True)
        for mirrored in (False, True):
            with torch.no_grad():
                logits = network(view.flip(3) if mirrored else view)
            probabilities = F.interpolate(logits, (60, 80), mode="bilinear").softmax(1)
            total += probabilities.flip(3) if mirrored else probabilities
    assert agreeing(found, total.argmax(1)[0]) > 0.985  # Pillow rounds resized pixels to whole numbers
    single = predicted(predictor(network, (60, 80)), WHOLE, image)
    assert agreeing(found, single) < 0.97  # the averages do something


def test_a_mirrored_image_alone_is_exact(picture):
    image, network = picture(40, 56), net()
    found = predicted(predictor(network, (40, 56)), Protocol(flip=True), image)
    one = predictor(network, (40, 56))
    logits = one.logits(np.stack([one.preprocess(image), one.preprocess(np.ascontiguousarray(image[:, ::-1]))]))
    both = F.interpolate(torch.from_numpy(logits), (40, 56), mode="bilinear").softmax(1)
    expected = (both[0] + both[1].flip(2)).argmax(0)
    assert agreeing(found, expected) > 0.999


def test_padding_stays_out_of_mirrored_answers(picture):
    image = picture(30, 80)  # the lower half of the input is padding
    one = predictor(net(), (64, 80), keep_ratio=True)
    symmetric = np.concatenate([image[:, :40], image[:, 39::-1]], axis=1)
    mask = predicted(one, Protocol(flip=True), symmetric)
    assert mask.shape == (30, 80)
    assert np.array_equal(mask, mask[:, ::-1])


@pytest.mark.parametrize("stride", [(16, 24), (10, 7), (32, 48), (1, 48)])
@pytest.mark.parametrize("size", [(70, 100), (32, 48), (33, 130), (20, 30), (20, 130)])
def test_windows_of_a_pointwise_network_are_the_whole_image(picture, size, stride):
    pointwise = torch.nn.Conv2d(3, 4, 1)
    image = picture(*size)
    whole = predicted(predictor(pointwise, size), WHOLE, image)
    slid = predicted(predictor(pointwise, (32, 48)), Protocol(Slide(stride, cover=False)), image)
    assert agreeing(whole, slid) > 0.9995  # means of equal floats may differ in the last bit


def test_windows_are_averaged_by_logits_as_in_mmsegmentation(picture):
    image, network = picture(50, 90), net()
    height, width, down, across = 32, 48, 20, 30
    found = predicted(predictor(network, (height, width)), Protocol(Slide((down, across), cover=False)), image, batch=2)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    total, count = torch.zeros(1, 5, 50, 90), torch.zeros(1, 1, 50, 90)
    for row in range(max(50 - height + down - 1, 0) // down + 1):
        for column in range(max(90 - width + across - 1, 0) // across + 1):
            bottom, right = min(row * down + height, 50), min(column * across + width, 90)
            top, left = bottom - height, right - width
            with torch.no_grad():
                logits = network(pixels[:, :, top:bottom, left:right])
            total[:, :, top:bottom, left:right] += F.interpolate(logits, (height, width), mode="bilinear")
            count[:, :, top:bottom, left:right] += 1
    assert agreeing(found, (total / count).argmax(1)[0]) > 0.999


def test_an_image_that_covers_the_window_keeps_its_shape(picture):
    shapes = []

    def run(pixels):
        shapes.append(pixels.shape)
        return np.zeros((len(pixels), 3, 4, 6), np.float32)

    one = Predictor(run, Preprocess((32, 48)))
    looks = Protocol(Slide((16, 24))).looks(one.preprocess, picture(100, 300))
    assert len(looks[0].inputs) == 3  # 32x96: the window and two steps of 24
    (answer,) = answered(one.logits, looks, 2)
    assert shapes == [(2, 3, 32, 48), (1, 3, 32, 48)]
    assert answer.logits.shape == (3, 32, 96)
    larger = Protocol(Slide((16, 24)), scales=(1.5,)).looks(one.preprocess, picture(100, 300))
    assert answered(one.logits, larger, 8)[0].logits.shape == (3, 48, 144)


def test_inputs_of_one_size_run_together(picture):
    seen = []
    one = Predictor(
        lambda pixels: seen.append(pixels.shape) or np.zeros((len(pixels), 2, 4, 4), np.float32), Preprocess((16, 16))
    )
    protocol = Protocol(flip=True, scales=(1.0, 2.0))
    looks = [look for _ in range(2) for look in protocol.looks(one.preprocess, picture(20, 20))]
    assert len(answered(one.logits, looks, 8)) == 8
    assert seen == [(4, 3, 16, 16), (4, 3, 32, 32)]
    assert protocol.sizes(one.preprocess) == {(16, 16), (32, 32)}
    assert Protocol(Slide((8, 8)), scales=(2.0,)).sizes(one.preprocess) == {(16, 16)}
    assert (protocol.images_at_once(8), protocol.images_at_once(2), WHOLE.images_at_once(8)) == (2, 1, 8)


def test_one_channel_is_a_sigmoid():
    high, low = np.full((1, 3, 4), 100, np.float32), np.full((1, 3, 4), -1, np.float32)
    assert average([Answer(high), Answer(low)], (3, 4)).all()  # (1 + 0.27) / 2
    assert not average([Answer(-high), Answer(low), Answer(-high)], (3, 4)).any()


def test_a_classifier_averages_probabilities():
    logits = [np.asarray(row, np.float32) for row in ([2, 0, 1], [-1, 3, 0])]
    mean = torch.stack([torch.from_numpy(row).softmax(0) for row in logits]).mean(0)
    found = torch.from_numpy(mean_logits([Answer(row) for row in logits])).softmax(0)
    assert found.numpy() == pytest.approx(mean.numpy(), abs=1e-6)
    assert mean_logits([Answer(logits[0])]) is logits[0]


def test_words():
    assert WHOLE.described((32, 48)) == "whole images"
    assert (
        Protocol(flip=True, scales=(0.75, 1)).described((32, 48))
        == "whole images at scales 0.75, 1, plain and mirrored"
    )
    slid = Protocol(Slide((16, 24), cover=False)).described((32, 48))
    assert slid == "windows of 32x48 every 16x24 over images of their own size"
