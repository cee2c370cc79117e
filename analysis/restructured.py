"""Captions as files in reStructuredText, which Snakemake's own report takes."""

import re
from collections.abc import Mapping
from pathlib import Path

MARKS = re.compile(r"[\\*`|_]")


def write(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write ``<name>.rst`` for every text; each is shown as it stands."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts.items():
        plain = MARKS.sub(lambda mark: "\\" + mark[0], text)
        paths.append(folder / f"{name}.rst")
        # Snakemake fills captions in as templates.
        paths[-1].write_text(f"{{% raw %}}{plain}{{% endraw %}}\n", encoding="utf-8")
    return paths
