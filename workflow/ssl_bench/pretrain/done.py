"""Which steps of pre-training are done: one that was stopped goes on with the next.

A step that has ended leaves a mark, which names all that determines it and hashes the files that it
read and wrote. Marks are removed when all steps are done: who starts again then wants it anew.
"""

import json
from pathlib import Path
from typing import Any

from ssl_bench.read_back import json_of
from ssl_bench.upstreams._checkpoints import file_digest
from ssl_bench.whole import whole


class Marks:
    """The marks of one run of pre-training.

    Args:
        folder: where they lie; None: no step counts as done.
        stamp: all that determines the steps, beside the files that they read; plain data.
    """

    def __init__(self, folder: Path | None, **stamp: Any) -> None:
        self.folder, self.stamp = folder, json.loads(json.dumps(stamp))

    def has(self, step: str, files: list[Path]) -> bool:
        """Say whether a step has ended, and its files are as they were then."""
        if self.folder is None or not self._mark(step).is_file():
            return False
        return bool(json_of(self._mark(step)) == self._content(files))

    def set(self, step: str, files: list[Path]) -> None:
        """Mark a step as done.

        Args:
            step: its name.
            files: all that it read and wrote; of a folder, what lies in it.

        Raises:
            StudyError: the mark cannot be written.
        """
        if self.folder is not None:
            with whole(self._mark(step)) as place:
                place.write_text(json.dumps(self._content(files), indent=1) + "\n")

    def _mark(self, step: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{step}.json"

    def _content(self, files: list[Path]) -> dict[str, Any]:
        found = [
            file for path in files for file in sorted([path, *path.rglob("*")]) if file.is_file()
        ]
        return {"stamp": self.stamp, "files": {str(file): file_digest(file) for file in found}}
