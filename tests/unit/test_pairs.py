import os

import numpy as np
import pytest
from PIL import Image

from limbeck.data.pairs import Pair, find_files, listed, pair, pairs_digest, read_image, read_mask
from limbeck.data.stats import cache_folder
from limbeck.record import UserError


@pytest.fixture
def tree(tmp_path):
    """``tree("a/b.png", ...)`` makes small images and returns their paths."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(tmp_path / name)
        return [tmp_path / name for name in names]

    return make


def names_of(folder, found):
    return [str(path.relative_to(folder)) for path in found]


def test_files_of_a_folder_are_found_in_order_and_depth(tree, tmp_path):
    tree("in/b.png", "in/a.JPG", "in/deep/c.webp", "out/d.png")
    (tmp_path / "in" / "notes.txt").write_text("x")
    assert names_of(tmp_path, find_files(tmp_path, "in")) == ["in/a.JPG", "in/b.png", "in/deep/c.webp"]
    assert find_files(tmp_path, "nowhere") == []


def test_globs(tree, tmp_path, monkeypatch):
    tree("x/one/left.png", "x/two/left.png", "x/two/right.png")
    assert names_of(tmp_path, find_files(tmp_path, "x/*/left.png")) == ["x/one/left.png", "x/two/left.png"]
    assert names_of(tmp_path, find_files(tmp_path, "x/t?o/*")) == ["x/two/left.png", "x/two/right.png"]
    assert names_of(tmp_path, find_files(tmp_path, "**/right.png")) == ["x/two/right.png"]
    monkeypatch.chdir(tmp_path)
    assert len(find_files(tmp_path.relative_to(tmp_path), "x/*/left.png")) == 2


def test_a_list_gives_the_order(tree, tmp_path):
    files = tree("images/d1/1.png", "images/d1/2.png", "images/d2/3.png")
    (tmp_path / "list.txt").write_text("d2/3\n\n1.png\nimages/d1/2.png masks/d1/2.png\n")
    assert listed(files, tmp_path / "list.txt") == [files[2], files[0], files[1]]


def test_a_list_with_a_name_that_is_not_there(tree, tmp_path):
    files = tree("images/1.png")
    (tmp_path / "list.txt").write_text("1\n7\n8\n")
    with pytest.raises(UserError, match=r"list\.txt: 2 of 3 names have no image, first '7'"):
        listed(files, tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"nolist\.txt: this list"):
        listed(files, tmp_path / "nolist.txt")


def test_a_list_tells_equal_stems_apart(tree, tmp_path):
    files = tree("images/d1/1.png", "images/d2/1.png")
    (tmp_path / "list.txt").write_text("d1/1\nd2/1\n")
    assert listed(files, tmp_path / "list.txt") == files


def test_pairs_by_stem(tree):
    images, masks = tree("i/b.jpg", "i/a.jpg"), tree("m/a.png", "m/b.png", "m/c.png")
    found = pair(images, masks)
    assert [(p.image, p.mask, p.name) for p in found] == [(images[0], masks[1], "b"), (images[1], masks[0], "a")]


def test_suffixes(tree):
    images, masks = tree("i/a_leftImg8bit.png"), tree("m/a_gtFine_labelIds.png")
    (found,) = pair(images, masks, "_leftImg8bit", "_gtFine_labelIds")
    assert found.mask == masks[0]
    with pytest.raises(UserError, match="image_suffix and mask_suffix"):
        pair(images, masks)


def test_equal_stems_go_with_their_folder(tree):
    images, masks = tree("i/d1/1.png", "i/d2/1.png"), tree("m/d2/1.png", "m/d1/1.png")
    assert [p.mask for p in pair(images, masks)] == masks[::-1]


def test_the_report_of_lonely_files(tree):
    images, masks = tree(*(f"i/{n}.png" for n in range(5))), tree("m/0.png", "m/x.png", "m/y.png")
    with pytest.raises(UserError) as caught:
        pair(images, masks)
    message = str(caught.value)
    assert message.startswith("4 of 5 images have no mask of the same name")
    assert str(images[1]) in message
    assert str(images[4]) not in message
    assert "..." in message
    assert "2 masks have no image" in message


def test_the_digest_is_of_names_and_sizes(tree, tmp_path):
    images, masks = tree("i/a.png", "i/b.png"), tree("m/a.png", "m/b.png")
    digest = pairs_digest(pair(images, masks))
    copied, theirs = tree("elsewhere/a.png", "elsewhere/b.png"), tree("masks/a.png", "masks/b.png")
    assert pairs_digest(pair(copied, theirs)) == digest
    assert pairs_digest(pair(images[:1], masks)) != digest
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(images[0])
    assert pairs_digest(pair(images, masks)) != digest


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGBA", (7, 7, 7, 0)), ("P", 0), ("CMYK", (0, 0, 0, 248))])
def test_images_are_rgb_whatever_they_were(tmp_path, mode, colour):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (6, 4), colour).save(path)
    image = read_image(path)
    assert (image.dtype, image.shape) == (np.uint8, (4, 6, 3))


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_grey_levels_beyond_a_byte_are_not_cut_off(tmp_path, kind):
    Image.fromarray(np.full((4, 6), 1000, kind)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: not a readable image \(mode \S+ has more than 8 bits"):
        read_image(tmp_path / "a.tif")


def test_images_stand_upright(tmp_path):
    upright = np.zeros((4, 8, 3), np.uint8)
    upright[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


def test_a_truncated_image_is_named(tmp_path, picture):
    path = tmp_path / "cut.jpg"
    Image.fromarray(picture(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.jpg: not a readable image .*restore or remove it"):
        read_image(path)
    path.write_bytes(b"no image at all")
    with pytest.raises(UserError, match=r"cut\.jpg: not a readable image"):
        read_image(path)
    with pytest.raises(UserError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


def saved(path, ids, mode="L"):
    image = Image.fromarray(np.asarray(ids, np.uint8), "L")
    if mode == "P":
        image = Image.fromarray(np.asarray(ids, np.uint8), "P")
        image.putpalette([level for colour in range(256) for level in (colour, 255 - colour, 7)])
    image.save(path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_hold_ids_not_colours(tmp_path, mode):
    path = saved(tmp_path / "m.png", [[0, 1, 2], [2, 255, 0]], mode)
    assert read_mask(path, 3, (2, 3)).tolist() == [[0, 1, 2], [2, 255, 0]]
    assert read_mask(path, 3, (2, 3)).dtype == np.uint8


def test_wide_masks(tmp_path):
    Image.fromarray(np.asarray([[0, 300], [2, 255]], np.uint16)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", 3, (2, 2), void=[300]).tolist() == [[0, 255], [2, 255]]
    with pytest.raises(UserError, match="class ids 300 are out of range"):
        read_mask(tmp_path / "m.png", 3, (2, 2))


def test_zero_label_moves_ids_down_once(tmp_path):
    path = saved(tmp_path / "m.png", [[0, 1, 2], [3, 255, 1]])
    assert read_mask(path, 3, (2, 3), zero_label=True).tolist() == [[255, 0, 1], [2, 255, 0]]
    with pytest.raises(UserError, match="class ids 2 are out of range"):
        read_mask(path, 2, (2, 3), zero_label=True)


def test_void_values_come_before_the_reduction(tmp_path):
    path = saved(tmp_path / "m.png", [[0, 1, 2, 30]])
    assert read_mask(path, 2, (1, 4), void=[2, 30]).tolist() == [[0, 1, 255, 255]]
    assert read_mask(path, 2, (1, 4), zero_label=True, void=[30]).tolist() == [[255, 0, 1, 255]]


def test_ids_out_of_range_are_listed(tmp_path):
    path = saved(tmp_path / "m.png", [[0, 1, 17], [9, 42, 255]])
    with pytest.raises(UserError) as caught:
        read_mask(path, 2, (2, 3))
    message = str(caught.value)
    assert str(path) in message
    assert "9, 17, 42" in message
    assert "there are 2 classes" in message
    assert "data.void" in message


def test_coloured_masks_are_refused(tmp_path, picture):
    Image.fromarray(picture(4, 4)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png: a mask holds one class id a pixel .*mode RGB"):
        read_mask(tmp_path / "m.png", 3, (4, 4))


def test_sizes_must_agree(tmp_path):
    path = saved(tmp_path / "m.png", [[0, 1, 1]])
    with pytest.raises(UserError, match=r"m\.png: the mask is 1x3, its image is 4x3"):
        read_mask(path, 3, (4, 3))


def test_an_unreadable_mask_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError, match=r"m\.png: not a readable mask"):
        read_mask(tmp_path / "m.png", 3, (4, 3))


def test_the_digest_sees_an_edit_of_equal_size(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before = pairs_digest([Pair(file, None, "a")])
    file.write_bytes(b"two")
    assert pairs_digest([Pair(file, None, "a")]) != before


def test_files_that_stand_still_are_read_once(tmp_path, monkeypatch):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        file.write_bytes(file.name.encode())
        os.utime(file, (1, 1))
    pairs = [Pair(file, None, file.stem) for file in files]
    before = pairs_digest(pairs)
    assert len(list((cache_folder() / "files").iterdir())) == 1
    monkeypatch.setattr("limbeck.data.pairs._hash", lambda path: pytest.fail(f"{path} was read again"))
    assert pairs_digest(pairs) == before
    monkeypatch.undo()
    os.utime(files[0], (2, 2))
    assert pairs_digest(pairs) == before
    files[0].write_bytes(b"9.png")
    assert pairs_digest(pairs) != before


def test_more_classes_than_ids_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png: index masks hold at most 255 classes, as id 255 is void; found 400"):
        read_mask(tmp_path / "m.png", 400, (2, 2))
    with pytest.raises(UserError, match="class ids 300 are out of range"):
        read_mask(tmp_path / "m.png", 255, (2, 2))


def test_negative_and_fractional_ids_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), -1, np.int32)).save(tmp_path / "m.tif")
    with pytest.raises(UserError, match="class ids -1 are out of range"):
        read_mask(tmp_path / "m.tif", 3, (2, 2))
    Image.fromarray(np.full((2, 2), 1.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"one class id a pixel .*mode F"):
        read_mask(tmp_path / "f.tif", 3, (2, 2))
