"""What the interface benchmark compares with: plain forms, the published package, s3prl."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from torch import nn


def load(name: str, path: Path) -> ModuleType:
    """Import one file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_published(folder: Path | None) -> SimpleNamespace | None:
    """Import the published package beside ours: ours steps aside while theirs is imported."""
    if folder is None:
        return None

    def take() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.split(".")[0] == "SSL_Interface"]
        return {name: sys.modules.pop(name) for name in names}

    ours = take()
    sys.path.insert(0, str(folder))
    try:
        interfaces = importlib.import_module("SSL_Interface.interfaces")
        configs = importlib.import_module("SSL_Interface.configs")
    finally:
        sys.path.remove(str(folder))
        sys.modules.update({f"published.{name}": module for name, module in take().items()})
        sys.modules.update(ours)
    if not Path(interfaces.__file__).is_relative_to(folder.resolve()):
        raise SystemExit(f"--published: no SSL_Interface in {folder}, found {interfaces.__file__}")
    return SimpleNamespace(interfaces=interfaces, configs=configs)


def load_featurizer() -> tuple[type[nn.Module] | None, str]:
    """Import s3prl's Featurizer; give None and the reason where that fails."""
    if importlib.util.find_spec("s3prl") is None:
        return None, "not installed"
    if importlib.util.find_spec("ssl_bench") is None:
        return None, "ssl_bench, which gives it names that torchaudio lost, is not on the path"
    # A name that ssl_bench lost is a mistake to be seen, a module that is not there is not.
    try:
        shims = importlib.import_module("ssl_bench.upstreams.s3prl")
        hub, failure = shims.hub, shims.StudyError
    except ModuleNotFoundError as error:
        return None, str(error)
    try:
        hub()
        return importlib.import_module("s3prl.nn.upstream").Featurizer, ""
    except (ImportError, failure) as error:
        return None, str(error)
