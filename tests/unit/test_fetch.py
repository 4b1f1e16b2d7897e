"""Fetching data sets from a server on this machine: broken connections, mirrors, checksums, hostile archives."""

import hashlib
import io
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from limbeck.build import names
from limbeck.cli import main
from limbeck.data import archives, download, fetch
from limbeck.data.archives import SOURCES, Source
from limbeck.data.unpack import unpack
from limbeck.datasets.camvid import CamVid
from limbeck.record import UserError

BODY = np.random.default_rng(0).bytes(3_000_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Files by path; ``breaks[path]`` is how many bytes each of the next answers sends before the line goes dead."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.breaks, self.asked = {}, {}, []
        self.ranges, self.sized, self.tag = True, True, '"one"'

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if self.path not in server.files:
            self.send_error(404)
            return
        body = server.files[self.path]
        same = self.headers.get("If-Range", server.tag) == server.tag
        start = int(wanted[6:-1]) if wanted and server.ranges and same else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.sized:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        breaks = server.breaks.get(self.path) or []
        end = start + breaks.pop(0) if breaks else len(body)
        self.wfile.write(body[start:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def get(path, *urls, checksum=MD5):
    return download.download(urls, path, checksum)


def zipped(*members):
    """The bytes of a .zip; a member is a name, which is its content too, or a pair of name and content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            name, content = (member, member.encode()) if isinstance(member, str) else member
            archive.writestr(name, content)
    return buffer.getvalue()


# Download


def test_a_file_comes_whole(server, tmp_path):
    server.files["/a"] = BODY
    assert get(tmp_path / "deep/a.zip", server.url("/a")) == MD5
    assert (tmp_path / "deep/a.zip").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.zip"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.files["/a"], server.breaks["/a"] = BODY, [1_000_000, 500_000]
    get(tmp_path / "a", server.url("/a"))
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.asked == [("/a", None), ("/a", "bytes=1000000-"), ("/a", "bytes=1500000-")]


def test_the_next_call_continues_what_the_last_one_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.files["/a"], server.breaks["/a"] = BODY, [2_000_000, 0, 0]
    with pytest.raises(UserError, match=r"(?s)could not be fetched:.*ended after 2,000,000 of 3,000,000 bytes.*kept"):
        get(tmp_path / "a", server.url("/a"))
    assert not (tmp_path / "a").exists()
    server.asked.clear()
    server.breaks["/a"] = []
    get(tmp_path / "a", server.url("/a"))
    assert server.asked == [("/a", "bytes=2000000-")]


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    server.files["/a"] = BODY
    (tmp_path / "a.part").write_bytes(BODY)
    get(tmp_path / "a", server.url("/a"))
    assert server.asked == [("/a", "bytes=3000000-")]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    server.files["/a"] = BODY
    (tmp_path / "a.part").write_bytes(BODY + b"more")
    get(tmp_path / "a", server.url("/a"))
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.files["/a"], server.ranges = BODY, False
    (tmp_path / "a.part").write_bytes(b"old" * 100)
    get(tmp_path / "a", server.url("/a"))
    assert (tmp_path / "a").read_bytes() == BODY


def test_without_a_checksum_only_the_same_version_is_continued(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.files["/a"], server.breaks["/a"] = BODY, [1_000_000, 0]
    with pytest.raises(UserError):
        get(tmp_path / "a", server.url("/a"), checksum=None)
    server.tag, server.files["/a"] = '"two"', BODY[::-1]
    sha256 = hashlib.sha256(BODY[::-1]).hexdigest()
    assert get(tmp_path / "a", server.url("/a"), checksum=None) == f"sha256:{sha256}"
    assert (tmp_path / "a").read_bytes() == BODY[::-1]


def test_a_length_that_nobody_announces(server, tmp_path):
    server.files["/a"], server.sized = BODY, False
    get(tmp_path / "a", server.url("/a"))
    assert (tmp_path / "a").read_bytes() == BODY


def test_mirrors_are_tried_in_turn(server, tmp_path):
    server.files |= {"/wrong": b"something else", "/right": BODY}
    get(tmp_path / "a", server.url("/gone"), "http://127.0.0.1:9/a", server.url("/wrong"), server.url("/right"))
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_mirror_continues_what_another_one_began(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.files |= {"/one": BODY, "/two": BODY}
    server.breaks["/one"] = [1_000_000, 0]
    get(tmp_path / "a", server.url("/one"), server.url("/two"))
    assert ("/two", "bytes=1000000-") in server.asked
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["/a"] = BODY + b"!"
    with pytest.raises(UserError, match=r"(?s)another file than the published one \(md5:\w+ instead of md5:"):
        get(tmp_path / "a", server.url("/a"))
    assert list(tmp_path.iterdir()) == []


def test_every_failure_is_named(server, tmp_path):
    with pytest.raises(UserError) as caught:
        get(tmp_path / "a.zip", server.url("/gone"), "http://127.0.0.1:9/a")
    message = str(caught.value)
    assert "HTTP Error 404" in message
    assert "127.0.0.1:9/a" in message
    assert f"put it at {tmp_path / 'a.zip'}" in message


# Unpack


def opened(data, tmp_path, places=None, counts=None):
    (tmp_path / "x.zip").write_bytes(data)
    unpack(tmp_path / "x.zip", tmp_path / "out", places or {"top": ""}, counts or {})


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tarred(*infos):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in infos:
            info.size = 1 if info.isreg() else 0
            archive.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


def named(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_folders_go_to_their_places(tmp_path):
    data = zipped("top/train/a.png", "top/val/b.png", "top/notes.txt", "__MACOSX/top/train/._a.png")
    opened(data, tmp_path, {"top/train": "images/training", "top/val": "images/validation"})
    assert files_under(tmp_path / "out") == ["images/training/a.png", "images/validation/b.png"]
    assert (tmp_path / "out/images/training/a.png").read_bytes() == b"top/train/a.png"


def test_tar_archives(tmp_path):
    opened(tarred(named("top", tarfile.DIRTYPE), named("top/a"), named("other/b")), tmp_path)
    assert files_under(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/tmp/evil", "top\\..\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_outside(tmp_path, name, kind):
    data = zipped("top/a", (name, b"x")) if kind == "zip" else tarred(named("top/a"), named(name))
    with pytest.raises(UserError, match="would be written outside its folder; nothing was unpacked"):
        opened(data, tmp_path)
    assert files_under(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with pytest.raises(UserError, match="'top/b' is a link or device"):
        opened(tarred(named("top/a"), named("top/b", kind, "/etc/passwd")), tmp_path)
    assert files_under(tmp_path) == ["x.zip"]


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("top/link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(UserError, match="'top/link' is a link or device"):
        opened(zipped("top/a", (link, b"/etc/passwd")), tmp_path)
    assert files_under(tmp_path) == ["x.zip"]


def test_a_damaged_archive_leaves_nothing(tmp_path):
    data = bytearray(zipped(("top/a", bytes(10_000)), "top/b"))
    data[45] ^= 255
    with pytest.raises(UserError, match=r"x\.zip: a damaged archive"):
        opened(bytes(data), tmp_path)
    assert files_under(tmp_path) == ["x.zip"]
    with pytest.raises(UserError, match=r"neither a \.zip nor a \.tar"):
        opened(b"<html>404</html>", tmp_path)


def test_an_incomplete_archive_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="nothing in it lies under top"):
        opened(zipped("other/a"), tmp_path)
    with pytest.raises(UserError, match="2 files for images instead of 3"):
        opened(zipped("top/images/a", "top/images/b"), tmp_path, counts={"images": 3})
    assert files_under(tmp_path) == ["x.zip"]


def test_what_does_not_fit_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.data.unpack.shutil.disk_usage", lambda _: type("U", (), {"free": 3}))
    with pytest.raises(UserError, match=r"to unpack, 0\.0 GB free"):
        opened(zipped("top/aaa"), tmp_path)


# Both, and the command


@pytest.fixture
def tiny(server, monkeypatch):
    """A published data set of two images called ``camvid``, and one that adds to it."""
    data = zipped("top/a.png", "top/b.png")
    more = zipped("more/c.png")
    server.files |= {"/tiny.zip": data, "/more.zip": more}
    md5 = f"md5:{hashlib.md5(data).hexdigest()}"
    found = Source("camvid", "sets/tiny", "tiny.zip", (server.url("/tiny.zip"),), {"top": "i"}, {"i": 2}, md5)
    added = Source(
        "camvid", "sets/tiny/m", "more.zip", (server.url("/more.zip"),), {"more": ""}, {"": 1}, None, "camvid"
    )
    monkeypatch.setitem(archives.SOURCES, "camvid", found)
    monkeypatch.setitem(archives.SOURCES, "camvid_more", added)
    return found


def test_a_data_set_is_fetched_once(server, tiny, tmp_path):
    for _ in range(2):
        assert fetch.fetch(tiny, tmp_path) == tmp_path / "sets/tiny"
    assert files_under(tmp_path) == ["sets/tiny/i/a.png", "sets/tiny/i/b.png"]
    assert len(server.asked) == 1


def test_an_archive_put_there_by_hand_is_checked_and_used(server, tiny, tmp_path):
    (tmp_path / ".archives").mkdir()
    (tmp_path / ".archives/tiny.zip").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"tiny\.zip: not the published archive \(md5:"):
        fetch.fetch(tiny, tmp_path)
    (tmp_path / ".archives/tiny.zip").write_bytes(server.files["/tiny.zip"])
    fetch.fetch(tiny, tmp_path)
    assert server.asked == []


def test_what_is_in_the_way_stays(tiny, tmp_path):
    (tmp_path / "sets/tiny").mkdir(parents=True)
    (tmp_path / "sets/tiny/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="tiny: holds something else"):
        fetch.fetch(tiny, tmp_path)
    assert files_under(tmp_path) == ["sets/tiny/mine.txt"]


def test_an_addition_needs_what_it_adds_to(tiny, tmp_path):
    with pytest.raises(UserError, match="run `limbeck data get camvid` first"):
        fetch.fetch(archives.SOURCES["camvid_more"], tmp_path)
    fetch.fetch(tiny, tmp_path)
    fetch.fetch(archives.SOURCES["camvid_more"], tmp_path)
    assert files_under(tmp_path / "sets/tiny") == ["i/a.png", "i/b.png", "m/c.png"]


def limbeck(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["limbeck", *words])
    main()


def test_the_command_says_terms_and_checksum(server, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    limbeck(monkeypatch, "data", "get", "camvid")
    said = capsys.readouterr()
    assert "camvid: no licence stated; published for research" in said.err
    assert "md5:" in said.err
    assert said.out.strip() == str(tmp_path / "sets/tiny")
    limbeck(monkeypatch, "data", "get", "camvid_more")
    assert "no published checksum is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("cityscapes", "register at https://www.cityscapes-dataset.com"), ("ade2k", "Did you mean 'ade20k'")],
)
def test_what_the_command_cannot_fetch_exits_with_2(monkeypatch, capsys, name, message):
    with pytest.raises(SystemExit) as caught:
        limbeck(monkeypatch, "data", "get", name)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_is_sound(name):
    source = SOURCES[name]
    assert all(url.startswith(("http://", "https://")) for url in source.urls)
    assert source.counts
    assert source.kind in names("datasets")
    if source.checksum is not None:
        algorithm, _, value = source.checksum.partition(":")
        assert len(value) == 2 * hashlib.new(algorithm).digest_size


def test_camvid_is_laid_out_as_its_dataset_reads_it(tmp_path, picture):
    buffer = io.BytesIO()
    Image.fromarray(picture(4, 4)).save(buffer, "png")
    source = SOURCES["camvid"]
    frames = ("0001TP_1", "0016E5_1", "0006R0_1", "Seq05VD_1")
    data = zipped(*((f"{place}/{frame}.png", buffer.getvalue()) for place in source.places for frame in frames))
    (tmp_path / "c.zip").write_bytes(data)
    unpack(tmp_path / "c.zip", tmp_path / "camvid", source.places, dict.fromkeys(source.counts, 4))
    made = {s: CamVid(s, tmp_path, protocol="drives") for s in ("training", "validation", "test")}
    assert {s: len(dataset) for s, dataset in made.items()} == {"training": 4, "validation": 2, "test": 1}
