"""Intervals of differences: against another implementation, and by how often they hold what is true."""

import math

import numpy as np
import pytest
from _fake_sweep import counts, miou
from scipy.stats import bootstrap, t

from limbeck.sweep.statistics import draw, gain, mean_and_deviation


def test_means_and_deviations():
    assert mean_and_deviation([]) == (None, None)
    assert mean_and_deviation([3.0]) == (3.0, None)
    assert mean_and_deviation([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)))


@pytest.mark.parametrize("block", [1, 3, 40, 64])
def test_the_score_of_a_draw_is_that_of_its_images(block):
    """Summed counts of whole blocks in a circle, one loop over one draw at a time."""
    counted = counts("kd", 0)
    drawn = draw(counted, 600, seed=3, block=block)
    rng, expected = np.random.default_rng(3), []
    for first in (0, 500):
        for starts in rng.integers(0, 40, (min(500, 600 - first), math.ceil(40 / block), 1)):
            images = [(start + at) % 40 for start in starts.ravel() for at in range(block)][:40]
            expected.append(miou(counted[images]))
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)


def test_the_interval_is_that_of_another_implementation():
    """scipy's percentile bootstrap, paired through the indices of the images."""
    ours, theirs = counts("cwd", 0), counts("none", 0)
    value = miou(ours) - miou(theirs)
    found = gain([value], [draw(ours)], [draw(theirs)])

    def difference(indices):
        return miou(ours[indices.astype(int)]) - miou(theirs[indices.astype(int)])

    known = bootstrap(
        (np.arange(40),), difference, n_resamples=4000, vectorized=False, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    width = known.high - known.low
    assert found.images == pytest.approx((known.low, known.high), abs=0.05 * width)
    assert (found.value, found.by_seed, found.whole) == (value, (value,), None)


def test_with_images_that_tell_nothing_the_interval_is_students():
    by_seed = [1.0, 1.5, 2.6]
    nothing = [np.zeros(10_000)] * 3
    found = gain(by_seed, [value + zero for value, zero in zip(by_seed, nothing, strict=True)], nothing)
    mean, deviation = np.mean(by_seed), np.std(by_seed, ddof=1)
    half = t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert found.images == pytest.approx((mean, mean))
    assert found.whole == pytest.approx((mean - half, mean + half), abs=0.05 * half)


def test_pairing_is_what_makes_a_small_difference_visible():
    """Hard images are hard for both networks: drawn apart, they hide what drawn together shows."""
    ours, theirs = counts("kd", 0), counts("none", 0)
    value = miou(ours) - miou(theirs)
    paired = gain([value], [draw(ours)], [draw(theirs)]).images
    apart = gain([value], [draw(ours)], [draw(theirs, seed=1)]).images
    assert paired[1] - paired[0] < 0.5 * (apart[1] - apart[0])


@pytest.mark.parametrize(
    ("by_seed", "noise", "words", "resolved"),
    [
        ([1.0, 1.1, 1.2], 0.1, "resolved", True),
        ([-1.0, -1.1, -1.2], 0.1, "resolved", True),
        ([0.4, 2.0, 1.2], 0.1, "not resolved beyond these seeds", False),
        ([1.0], 0.1, "not resolved beyond this seed", False),
        ([1.0, 1.1, 1.2], 2.0, "not resolved", False),
        ([0.1], 2.0, "not resolved", False),
    ],
)
def test_verdicts(by_seed, noise, words, resolved):
    drawn = np.random.default_rng(0).normal(0, noise, 10_000)
    found = gain(by_seed, [value + drawn for value in by_seed], [np.zeros(10_000)] * len(by_seed))
    assert (found.verdict, found.resolved) == (words, resolved)


def test_without_counts_nothing_is_claimed():
    found = gain([5.0, 5.1], [], [])
    assert (found.value, found.images, found.whole, found.resolved) == (5.05, None, None, False)
    assert found.verdict == "not tested: no counts of single images"


def test_a_class_that_no_drawn_image_has_is_left_out():
    counted = np.zeros((2, 2, 3), np.int64)
    counted[0, 0], counted[1, 1] = (3, 1, 0), (1, 0, 1)
    assert set(draw(counted, 200).round(6)) == {75.0, 50.0, 62.5}


def simulated(rng, seeds, deviation, images):
    """A classifier and a better one on the same images, several seeds each: gain and draws of each network."""
    hard = rng.normal(0, 1, images)
    scores = []
    for _ in range(seeds):
        for better in (0.3, 0.0):
            hit = hard + rng.normal(0, 0.5, images) + better + rng.normal(0, deviation) > 0
            counted = np.stack([hit, 0 * hit, ~hit], -1)[:, None].astype(np.int64)
            scores.append((100 * hit.mean(), draw(counted, 500)))
    ours, theirs = scores[::2], scores[1::2]
    by_seed = [one[0] - two[0] for one, two in zip(ours, theirs, strict=True)]
    return gain(by_seed, [one for _, one in ours], [two for _, two in theirs])


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_what_is_true_as_often_as_they_say(seeds, deviation):
    """The true gain is known in closed form; an interval over images alone misses it where seeds differ."""
    spread = math.sqrt(1 + 0.25 + deviation**2)
    truth = 50 * (1 + math.erf(0.3 / spread / math.sqrt(2))) - 50
    rng = np.random.default_rng(seeds)
    found = [simulated(rng, seeds, deviation, 150) for _ in range(200)]
    whole = np.mean([one.whole[0] <= truth <= one.whole[1] for one in found])
    images = np.mean([one.images[0] <= truth <= one.images[1] for one in found])
    assert whole >= 0.92  # 95 % less three standard errors of 200 trials would be 90 %
    if deviation == 0.3:
        assert images < 0.6
