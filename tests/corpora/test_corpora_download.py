"""Downloads from a server on this machine: resumed, checked, and unpacked within their folder."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssl_bench import download
from ssl_bench.corpora import librispeech, speech_commands
from ssl_bench.corpora.base import Archive
from ssl_bench.errors import StudyError


class Server(ThreadingHTTPServer):
    """Serves ``files``; sends at most ``limit`` bytes an answer; ``ranges``: can go on."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.limit = None
        self.ranges = True
        self.asked = []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path[1:])
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if not self.server.ranges:
            start = 0
        if start and start >= len(content):
            self.send_error(416)
            return
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def tar(members):
    """A tar.gz of name → content; a tuple is a link's target."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, content[0]
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture
def archive(server):
    content = tar({"corpus/a.txt": b"a" * 100, "corpus/b/c.txt": b"c"})
    server.files["part.tar.gz"] = content
    return Archive(server.url("part.tar.gz"), f"md5:{hashlib.md5(content).hexdigest()}")


def test_an_archive_is_unpacked_checked_and_removed_and_not_asked_for_again(
    server, archive, tmp_path
):
    download.install(archive, tmp_path)
    assert (tmp_path / "corpus" / "b" / "c.txt").read_bytes() == b"c"
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", ".part.tar.gz.done"}
    download.install(archive, tmp_path)
    assert len(server.asked) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(server, archive, tmp_path):
    server.limit = 50
    download.install(archive, tmp_path)
    assert (tmp_path / "corpus" / "a.txt").is_file()
    assert server.asked[:3] == [None, "bytes=50-", "bytes=100-"]


def test_a_transfer_that_is_given_up_keeps_what_it_has(server, archive, tmp_path):
    part = tmp_path / "part.tar.gz.part"
    part.write_bytes(server.files["part.tar.gz"][:40])
    server.limit = 0
    with pytest.raises(StudyError, match="after 40 bytes; run this again to go on"):
        download.install(archive, tmp_path)
    assert len(server.asked) == download.ATTEMPTS
    assert part.stat().st_size == 40
    server.limit = None
    download.install(archive, tmp_path)
    assert server.asked[-1] == "bytes=40-"
    assert (tmp_path / "corpus" / "a.txt").is_file()


def test_a_server_that_cannot_go_on_sends_all_again(server, archive, tmp_path):
    server.ranges = False
    (tmp_path / "part.tar.gz.part").write_bytes(b"x" * 40)
    download.install(archive, tmp_path)
    assert (tmp_path / "corpus" / "a.txt").is_file()


def test_a_part_that_is_whole_already_is_only_checked(server, archive, tmp_path):
    (tmp_path / "part.tar.gz.part").write_bytes(server.files["part.tar.gz"])
    download.install(archive, tmp_path)
    assert (tmp_path / "corpus" / "a.txt").is_file()


def test_a_wrong_checksum_leaves_nothing(server, archive, tmp_path):
    server.files["part.tar.gz"] += b"more"
    found = hashlib.md5(server.files["part.tar.gz"]).hexdigest()
    with pytest.raises(StudyError) as raised:
        download.install(archive, tmp_path)
    assert f"md5 is {found}, expected {archive.digest[4:]}; removed" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "members",
    [
        {"../outside.txt": b"x"},
        {"/outside.txt": b"x"},
        {"link": ("..",), "link/outside.txt": b"x"},
    ],
)
def test_an_archive_that_would_leave_its_folder_is_refused(server, tmp_path, members):
    content = tar(members)
    server.files["bad.tar.gz"] = content
    bad = Archive(server.url("bad.tar.gz"), f"sha256:{hashlib.sha256(content).hexdigest()}", "in")
    folder = tmp_path / "to"
    if list(members) == ["/outside.txt"]:  # the filter takes the leading slash off
        download.install(bad, folder)
        assert (folder / "in" / "outside.txt").is_file()
    else:
        with pytest.raises(StudyError, match="not unpacked: "):
            download.install(bad, folder)
        assert not (folder / ".bad.tar.gz.done").exists()
    outside = [path for path in tmp_path.rglob("outside.txt") if folder / "in" not in path.parents]
    assert not outside


def test_a_file_that_is_no_archive(server, tmp_path):
    server.files["bad.tar.gz"] = b"not a tar"
    digest = hashlib.sha256(b"not a tar").hexdigest()
    with pytest.raises(StudyError, match="cannot be unpacked: "):
        download.install(Archive(server.url("bad.tar.gz"), f"sha256:{digest}"), tmp_path)


def test_no_such_file_on_the_server(server, tmp_path):
    with pytest.raises(StudyError, match="the server answers 404"):
        download.fetch(server.url("no.tar.gz"), tmp_path / "no.tar.gz")


def test_parts_of_a_corpus(server, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(librispeech, "ARCHIVES", {"dev-clean": archive})
    download.download("librispeech", tmp_path, ["dev-clean"])
    assert (tmp_path / "corpus" / "a.txt").is_file()
    with pytest.raises(
        StudyError, match="unknown part 'dev-clear' of librispeech; did you mean 'dev-clean'"
    ):
        download.download("librispeech", tmp_path, ["dev-clear"])


@pytest.mark.parametrize("kind", ["iemocap", "voxceleb1", "fluent_speech_commands", "ml_superb"])
def test_corpora_that_are_not_downloaded(kind, tmp_path):
    with pytest.raises(StudyError, match=f"{kind}: has no download"):
        download.download(kind, tmp_path, [])


def test_addresses_are_the_corpora_s_own():
    archives = {**librispeech.ARCHIVES, **speech_commands.ARCHIVES}
    hosts = {archive.url.split("/")[2] for archive in archives.values()}
    assert hosts == {"www.openslr.org", "download.tensorflow.org"}
    for archive in archives.values():
        algorithm, digits = archive.digest.split(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[algorithm]
    assert set(librispeech.DEFAULT_ARCHIVES) <= set(librispeech.ARCHIVES)
