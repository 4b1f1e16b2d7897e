import numpy as np
import pytest

from limbeck.data.sample import VOID, Sample
from limbeck.data.stats import cache_folder, contents, copies, count_classes
from limbeck.record import UserError


def test_pixels_are_counted_without_void(samples):
    dataset = samples(5)
    expected = np.zeros(4, np.int64)
    for index in range(5):
        for label in range(4):
            expected[label] += (dataset[index].target == label).sum()
    counted = count_classes(dataset)
    assert counted.pixels == expected.tolist()
    assert sum(counted.pixels) == 5 * (16 - 2) * 24


def test_areas_are_of_the_images_that_a_class_is_in(samples):
    class Two(samples):
        targets = ([[0, 0, 1, VOID]], [[1, 1, 1, 1]])

        def __getitem__(self, index):
            return Sample(np.zeros((1, 4, 3), np.uint8), np.asarray(self.targets[index]), str(index))

    counted = count_classes(Two(2))
    assert (counted.pixels, counted.areas) == ([2, 5, 0, 0], [3, 7, 0, 0])


def test_images_without_truth_count_nothing(samples):
    assert count_classes(samples(3, labelled=False)).pixels == [0, 0, 0, 0]


def test_without_names_of_its_own_a_split_has_those_of_any_weights(samples):
    class Images(samples):
        def digest(self):
            return "always this"

    three, seven = Images(2, labelled=False), Images(2, labelled=False)
    three.classes, seven.classes = tuple("abc"), tuple("abcdefg")
    assert [len(count_classes(dataset).pixels) for dataset in (three, seven)] == [3, 7]


def test_the_second_time_nothing_is_read(samples):
    class Once(samples):
        reads = 0

        def __getitem__(self, index):
            Once.reads += 1
            return super().__getitem__(index)

    first = count_classes(Once(6))
    assert Once.reads == 6
    assert count_classes(Once(6)) == first
    assert Once.reads == 6
    count_classes(Once(7))
    assert Once.reads == 13


def test_copies_are_found_by_their_pixels(samples):
    """The first three of five are those of three; equal bytes of another shape are another image."""
    five, three, turned = (contents(samples(n, size=size)) for n, size in ((5, (16, 24)), (3, (16, 24)), (3, (24, 16))))
    assert sorted(name for names in five.images.values() for name in names) == [f"tiny-{n}" for n in range(5)]
    found = copies({"training": five.images, "validation": three.images, "test": turned.images})
    assert found == [{"training": [f"tiny-{n}"], "validation": [f"tiny-{n}"]} for n in range(3)]


def test_progress_counts_to_the_end(samples):
    seen = []
    contents(samples(4), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_broken_sample_stops_the_pass_and_leaves_no_record(samples):
    class Broken(samples):
        def __getitem__(self, index):
            if index == 2:
                raise UserError("tiny-2: broken")
            return super().__getitem__(index)

    with pytest.raises(UserError, match="tiny-2"):
        count_classes(Broken(4))
    assert not list(cache_folder().rglob("*.json"))


def test_ids_beyond_the_classes_do_not_grow_the_answer(samples):
    class Odd(samples):
        def __getitem__(self, index):
            return Sample(np.zeros((1, 3, 3), np.uint8), np.asarray([[0, 9, VOID]]), "odd")

    assert count_classes(Odd(1)).pixels == [1, 0, 0, 0]


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LIMBECK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "limbeck"
