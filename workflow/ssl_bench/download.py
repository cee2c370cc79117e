"""Download a corpus whose licence allows it: resumable, checked against published sums, unpacked.

lhotse's helper resumes, but compares no checksum, and it unpacks links as they are.
"""

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from ssl_bench import registry
from ssl_bench.corpora.base import Archive
from ssl_bench.errors import StudyError, suggest
from ssl_bench.progress import say, track

CHUNK = 1 << 20
ATTEMPTS = 5
"""Times that a transfer may break off before it is given up; what is there is kept."""
TIMEOUT = 60.0


def download(kind: str, folder: Path, parts: list[str]) -> None:
    """Download and unpack archives of a corpus; those that are done are passed over.

    Args:
        kind: the corpus kind.
        folder: where to; the corpus's own folders are made in it.
        parts: names of its archives; none of them: those that its study needs by default.

    Raises:
        StudyError: the corpus cannot be downloaded, an unknown part, the transfer breaks off again
            and again, a wrong checksum, or an archive that would leave the folder.
    """
    module = registry.load("corpora", kind, "--corpus")
    archives: dict[str, Archive] = getattr(module, "ARCHIVES", {})
    if not archives:
        raise StudyError(f"{kind}: has no download; docs/corpora.md says where to get it")
    for part in parts:
        if part not in archives:
            raise StudyError(f"--part: unknown part {part!r} of {kind}; {suggest(part, archives)}")
    for part in parts or module.DEFAULT_ARCHIVES:
        install(archives[part], folder)


def install(archive: Archive, folder: Path) -> None:
    """Download one archive, check it, unpack it and remove it; a marker says that it is done."""
    name = archive.url.rpartition("/")[2]
    marker = folder / f".{name}.done"
    if marker.is_file() and marker.read_text() == archive.digest:
        say(f"{name}: is there")
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.is_file():
        fetch(archive.url, path)
    verify(path, archive.digest)
    unpack(path, folder / archive.folder)
    marker.write_text(archive.digest)
    path.unlink()


def fetch(url: str, path: Path) -> None:
    """Download to ``<path>.part``, going on where an earlier attempt stopped, then rename it."""
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _transfer(url, part):
                part.rename(path)
                return
            problem = "the connection was closed"
        except urllib.error.HTTPError as error:
            raise StudyError(f"{url}: the server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        there = part.stat().st_size if part.is_file() else 0
        failures = failures + 1 if there <= before else 1
        if failures >= ATTEMPTS:
            raise StudyError(f"{url}: {problem} after {there:,} bytes; run this again to go on")
        say(f"{url}: {problem} after {there:,} bytes; going on")


def _transfer(url: str, part: Path) -> bool:
    """Append what is missing of ``part``; say whether all of it is there."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send; the checksum will tell
            error.close()
            return True
        raise
    with response:
        if have and response.status != 206:  # the server cannot go on in the middle
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            chunks = iter(lambda: response.read(CHUNK), b"")
            for chunk in track(chunks, f"{part.stem}: MiB"):
                file.write(chunk)
    return total is None or part.stat().st_size == total


def verify(path: Path, digest: str) -> None:
    """Compare a file with its published checksum; remove it if it is another file."""
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        path.unlink()
        raise StudyError(
            f"{path}: {algorithm} is {found}, expected {expected}; removed, download it again"
        )


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar file; refuse members that would be written outside of ``folder``."""
    if not hasattr(tarfile, "data_filter"):
        raise StudyError(f"{path}: unpacking safely needs Python 3.11.4 or newer")
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{path.name}: unpacking")
    try:
        with tarfile.open(path) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise StudyError(f"{path}: not unpacked: {error}") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StudyError(f"{path}: cannot be unpacked: {error}") from None
