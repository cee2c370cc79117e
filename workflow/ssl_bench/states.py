"""What a study's states take on disk: listed, hashed, or removed.

States that were removed are encoded anew by whichever job needs them next.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ssl_bench.errors import StudyError
from ssl_bench.features import open_store
from ssl_bench.progress import amount
from ssl_bench.store import ABOUT, Store
from ssl_bench.study import Study


def stores(study: Study) -> Iterator[tuple[str, str, Store]]:
    """Yield upstream, corpus and disk cache of every stream of a study that is kept on disk."""
    for upstream in study.upstreams:
        for corpus in study.corpora:
            path = study.features_dir(upstream, corpus) / "features.json"
            if path.is_file():
                about = json.loads(path.read_text())
                if "store" in about:
                    yield upstream, corpus, open_store(study, about)


def verify(study: Study) -> None:
    """Hash every shard at the speed of reading; print a line a cache.

    Raises:
        StudyError: a shard is not what it has to be; names the first one.
    """
    bad: dict[Path, str] = {}
    for upstream, corpus, store in stores(study):
        faults = store.faults(everything=True)
        bad |= {store.shards[number].path: problem for number, problem in faults.items()}
        whole = f"{len(store.shards) - len(faults)} of {len(store.shards)} shards are whole"
        print(f"{amount(store.size)}\t{upstream} on {corpus}: {whole}\t{store.folder}")
    for path, problem in bad.items():
        raise StudyError(
            f"{path}: {problem}" + (f"; and {len(bad) - 1} more" if len(bad) > 1 else "")
        )


def free(study: Study) -> None:
    """Remove the disk caches that a study uses, or made and uses no more; say what each frees."""
    folders = {store.folder for _, _, store in stores(study)}
    for about in study.states_dir("").glob(f"*/{ABOUT}"):
        if json.loads(about.read_text())["study"] == study.name:
            folders.add(about.parent)
    total = 0
    for folder in sorted(folders):
        size = _size(folder)
        shutil.rmtree(folder, ignore_errors=True)
        total += size
        print(f"{amount(size)}\t{folder}")
    print(f"freed {amount(total)} of states of {study.name}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
