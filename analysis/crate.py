"""A study's folder as an RO-Crate: what each file in it is, and what made them.

The description follows Process Run Crate (https://w3id.org/ro/wfrun/process/0.5): one action whose
result are the files and whose instrument is this software at the commits that the cells name. The
folder itself is the crate; nothing is copied.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ssl_bench.errors import StudyError
from ssl_bench.whole import whole

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
MEDIA = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "text/x-tex",
}


def write(results: Path) -> Path:
    """Describe ``results/<study>`` in ``ro-crate-metadata.json`` and return that file.

    Raises:
        StudyError: there is no ``provenance.json``, which ``collect`` writes.
    """
    from rocrate.model import ContextEntity, SoftwareApplication
    from rocrate.rocrate import ROCrate

    if not (results / "provenance.json").is_file():
        raise StudyError(f"{results}: no provenance.json, expected the folder of a finished study")
    origin = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
    study = origin["study"]
    captions = _captions(results)

    crate = ROCrate()
    crate.name = study.get("title") or study["name"]
    crate.description = (
        f"{origin['cells']} cells, {origin['runs']} runs of the study {study['name']!r}: metrics, "
        "scores of every utterance, tables, figures and the report."
    )
    crate.root_dataset["conformsTo"] = crate.add(
        ContextEntity(crate, PROFILE, {"@type": "CreativeWork", "name": "Process Run Crate"})
    )
    files = [
        crate.add_file(path, path.relative_to(results).as_posix(), properties=about(path, captions))
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name != METADATA and not _hidden(path.relative_to(results))
    ]
    versions = origin["versions"]
    engine = crate.add(
        SoftwareApplication(
            crate,
            "#ssl-interface-study",
            {
                "name": "ssl-interface-study",
                "version": ", ".join(origin["git_commits"]),
                "softwareRequirements": [
                    f"{name} {' or '.join(found)}" for name, found in versions.items()
                ],
            },
        )
    )
    crate.add_action(
        engine,
        "#study",
        result=files,
        properties={
            "name": study["name"],
            "description": json.dumps(study, sort_keys=True),
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    text = json.dumps(crate.metadata.generate(), indent=4, sort_keys=True, ensure_ascii=False)
    with whole(results / METADATA) as place:
        place.write_text(text, encoding="utf-8")
    return results / METADATA


def about(path: Path, captions: dict[str, str]) -> dict[str, Any]:
    """Return what is said of one file: media type, size, SHA-256 and, of a figure, its caption."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    said: dict[str, Any] = {
        "name": path.name,
        "encodingFormat": MEDIA.get(path.suffix, "application/octet-stream"),
        "contentSize": str(path.stat().st_size),
        "sha256": digest,
    }
    if path.parent.name == "figures" and path.stem in captions:
        said["description"] = captions[path.stem]
    return said


def _captions(results: Path) -> dict[str, str]:
    file = results / "figures" / "captions.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {name: f"{entry['title']}. {entry['caption']}" for name, entry in found.items()}


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
