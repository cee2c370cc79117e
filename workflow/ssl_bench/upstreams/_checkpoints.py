"""What is wrong with a checkpoint, in one line, and what its files are."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from ssl_bench.errors import StudyError

SHOWN = 3
"""Keys of each sort that an error line names."""


def unfit(
    where: str,
    missing: Collection[str] = (),
    extra: Collection[str] = (),
    misshapen: Collection[str] = (),
) -> StudyError:
    """Return the error of weights that do not fit their model: how many keys, and the first few.

    Args:
        where: names the checkpoint.
        missing: keys that the model has and the weights have not.
        extra: keys that the weights have and the model has not.
        misshapen: keys whose tensors are of another shape than the model's.
    """
    sorts = (("missing", missing), ("unexpected", extra), ("of another shape", misshapen))
    found = [f"{len(keys)} {sort} ({_first(keys)})" for sort, keys in sorts if keys]
    told = f"expected the keys that its configuration makes, found {', '.join(found)}"
    return StudyError(f"upstream: the weights of {where} do not fit its model: {told}")


def unfit_by_message(where: str, message: str) -> StudyError | None:
    """Return the same error from what ``load_state_dict`` says; None if it says something else."""
    if "loading state_dict" not in message:
        return None
    missing, extra = (
        re.findall(r'"([^"]+)"', "".join(re.findall(rf"{sort} key\(s\) in .*", message)))
        for sort in ("Missing", "Unexpected")
    )
    return unfit(where, missing, extra, re.findall(r"size mismatch for ([^:]+):", message))


def more_than_weights(message: str) -> str | None:
    """Say what a checkpoint holds beside weights, from what torch says; None if it does not."""
    if "Weights only load failed" not in message:
        return None
    named = re.search(r"GLOBAL (\S+)", message)
    what = f"they hold {named[1]}, and" if named else "they are not torch's, or"
    return f"{what} reading it could run any code"


def _first(keys: Collection[str]) -> str:
    shown = [repr(key) for key in sorted(keys)[:SHOWN]]
    return ", ".join(shown) + (", …" if len(keys) > SHOWN else "")


def demand(where: str, expected: Mapping[str, str], files: Collection[Path]) -> None:
    """Hold the files that weights were read from to SHA-256 sums.

    Args:
        where: names the upstream.
        expected: the sum of every file, by its name.
        files: what was read.

    Raises:
        StudyError: another file was read, or one of another sum.
    """
    found = {path.name: file_digest(path) for path in files}
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise StudyError(
                f"{where}.sha256: {name}: expected {expected.get(name, 'no such file')}, "
                f"found {found.get(name, 'no such file read')}"
            )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
