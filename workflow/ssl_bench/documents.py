"""Read YAML and JSON files that people write; a key that stands twice is a mistake."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ssl_bench.errors import StudyError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"


class _Once(_Loader):
    """Of two equal keys YAML's own reader silently keeps the second."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; refuse one that has a key twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.value[number][0].start_mark
                )
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def read_mapping(path: Path) -> dict[str, Any]:
    """Return what a ``.json`` or, under any other name, a YAML file holds.

    Raises:
        StudyError: not UTF-8, not YAML or JSON, a key that stands twice, an alias within itself,
            something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # YAML's reader takes JSON, too, at a hundredth of the speed, and every job reads one.
        raw = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
        json.dumps(raw, default=str, skipkeys=True)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8; save it with that encoding") from None
    except (RecursionError, ValueError):
        raise StudyError(f"{path}: an alias (*name) stands within what it names") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: expected a mapping of keys, found {type(raw).__name__}")
    return raw


def _yaml(path: Path, text: str) -> Any:
    loader = None
    try:
        loader = _Once(text)
        return loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        if error.context is None and "stands twice" in str(error.problem):
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise StudyError(f"{path}: {line}{error.problem}; give it once") from None
        raise _not_yaml(path, error) from None
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None
    finally:
        if loader is not None:
            loader.dispose()


def _not_yaml(path: Path, error: yaml.YAMLError) -> StudyError:
    reason = " ".join(str(error).split()).replace(' in "<unicode string>", ', " at ")
    return StudyError(f"{path}: not YAML: {reason}")


def _json(path: Path, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise StudyError(f"{path}: key {key!r} stands twice; give it once")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}: not JSON: {error}") from None
