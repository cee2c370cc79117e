"""Save an interface or a fusion, load it, share it on a Hugging Face hub.

A saved interface is a folder, the same here and on a hub:

* ``config.json``: ``version`` of this layout, ``interface`` (a name of ``SSL_Interface.names()``,
  or of a class, such as ``Fusion``) and ``options`` (its configuration).
* ``model.safetensors``: parameters and buffers under their state-dict names, each in its own dtype.
* ``README.md``: a model card.

Nothing is pickled. The packages huggingface_hub and safetensors, which this needs, are imported
when it is used: the library itself needs torch only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self, cast

from torch import Tensor, nn

from SSL_Interface.errors import InterfaceError

VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ALWAYS = {
    *("num_layers", "dim", "normalize", "upstream_layer_num", "upstream_feat_dim"),
    *("kind", "upstreams"),
}
"""Options that a folder must have, where the interface has them."""


class Shareable(nn.Module):
    """A module that its configuration and its tensors say all of, with folders and hubs.

    A subclass sets ``Config``, a dataclass; it is made of one, ``kind(kind.Config(…))``, and keeps
    it as ``config``.
    """

    Config: ClassVar[type[Any]]
    config: Any

    @property
    def name(self) -> str:
        """The name in the registry: that of the file that defines it."""
        files = [kind.__module__.rpartition(".")[2] for kind in type(self).__mro__]
        return next(file for file in files if not file.startswith("_"))

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        raise NotImplementedError

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def card_rows(self) -> dict[str, str]:
        """What a model card says of the states that this takes: row → value."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Save to a folder, which is made if need be; its README.md is kept if it has one.

        Files are written aside and moved into place, ``config.json`` last: a folder that was left
        half-way does not load.

        Raises:
            InterfaceError: the folder's path is a file, or a package is missing.
        """
        _hub().save(self, _folder(folder))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to a hub and return the address of the commit.

        Args:
            repo_id: ``owner/name``; made if it does not exist.
            options: of ``huggingface_hub.ModelHubMixin.push_to_hub``, such as ``private``,
                ``token``, ``branch`` or ``commit_message``.

        Raises:
            InterfaceError: a package is missing, or an option unknown. What the hub refuses is
                huggingface_hub's error.
        """
        return _hub().push(self, repo_id, **options)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Load from a folder or a hub, on the CPU, in eval mode.

        ``SSL_Interface.from_pretrained`` gives the class that was saved. A class's own method, such
        as ``Fusion.from_pretrained`` or ``Interface.from_pretrained``, takes nothing but that
        class or one derived from it.

        Args:
            source: a folder, or a hub id such as ``owner/name``.
            options: for a hub id, those of ``huggingface_hub.hf_hub_download``, such as
                ``revision``, ``token``, ``cache_dir`` or ``local_files_only``. A folder needs none.

        Raises:
            InterfaceError: a file is missing or not what it should be, the interface is unknown or
                not of this class, or options or tensors do not fit.
        """
        _hub().check_options("from_pretrained", options)
        config, weights = _files(source, options)
        described = _described(config)
        kind = _kind(cls, described["interface"])
        interface = kind(_configuration(kind, described["interface"], described["options"]))
        _load(interface, _hub().read(weights))
        return cast(Self, interface.eval())


def describe(interface: Shareable) -> dict[str, Any]:
    """Return what ``config.json`` says of an interface."""
    options = _listed(asdict(interface.config))
    return {"version": VERSION, "interface": saved_name(type(interface)), "options": options}


def _listed(value: Any) -> Any:
    """Make every sequence a list, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_listed(item) for item in value]
    return value


def saved_name(kind: type[Shareable]) -> str:
    """Return the name that a class is saved under: the registry's, or else the class's own."""
    from SSL_Interface import registry  # It imports classes that are Shareable.

    name = kind.__module__.rpartition(".")[2]
    known = name in registry.names() and registry.find(name) is kind
    return name if known else kind.__name__


def _kind(wanted: type[Shareable], name: str) -> type[Shareable]:
    """Return the class of a name, which is the wanted one or derived from it."""
    from SSL_Interface import Fusion, interfaces, registry

    if name == saved_name(wanted) and wanted is not Shareable:
        return wanted
    others = {kind: getattr(interfaces, kind) for kind in interfaces.__all__} | {"Fusion": Fusion}
    kind: type[Shareable]
    if name in others:
        kind = others[name]
    elif name in registry.names():
        kind = registry.find(name)
    else:
        known = registry.one_of(name, [*registry.names(), *others])
        raise InterfaceError(f"{CONFIG}: interface", known, repr(name))
    if not issubclass(kind, wanted):
        raise InterfaceError(f"{CONFIG}: interface", repr(saved_name(wanted)), repr(name))
    return kind


def _configuration(kind: type[Shareable], name: str, options: dict[str, Any]) -> Any:
    """Make the configuration; options that came later than the folder take their defaults."""
    from SSL_Interface import registry

    known = [field.name for field in fields(kind.Config)]
    for option in options:
        if option not in known:
            expected = registry.one_of(option, known)
            raise InterfaceError(f"{name}: {CONFIG}: option", expected, repr(option))
    for option in known:
        if option in ALWAYS and option not in options:
            raise InterfaceError(f"{name}: {CONFIG}: options", repr(option), "no such key")
    return kind.Config(**options)


def _load(interface: Shareable, tensors: Mapping[str, Tensor]) -> None:
    """Give an interface its tensors, in the dtypes in which they were saved."""
    own, where = interface.state_dict(), f"{interface.name}: {WEIGHTS}"
    for key in own:
        if key not in tensors:
            raise InterfaceError(where, f"a tensor {key!r}", f"only {_list(tensors)}")
    for key, tensor in tensors.items():
        if key not in own:
            raise InterfaceError(where, f"only {_list(own)}", f"also {key!r}")
        kinds = (tensor.is_floating_point(), own[key].is_floating_point())
        if tensor.shape != own[key].shape or kinds[0] != kinds[1]:
            expected = f"{key} {tuple(own[key].shape)} like {own[key].dtype}"
            raise InterfaceError(where, expected, f"{tuple(tensor.shape)} of {tensor.dtype}")
    interface.load_state_dict(tensors, assign=True)


def _list(keys: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, keys)) or "nothing"


def _folder(path: str | Path) -> Path:
    if not isinstance(path, str | Path):
        raise InterfaceError("save_pretrained: folder", "a path", repr(path))
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InterfaceError("save_pretrained: folder", "a folder", f"the file {str(folder)!r}")
    return folder


def _files(source: str | Path, options: dict[str, Any]) -> tuple[Path, Path]:
    """Find the files in a folder or fetch them from a hub."""
    if not isinstance(source, str | Path):
        raise InterfaceError("from_pretrained: source", "a folder or a hub id", repr(source))
    folder = Path(source)
    if folder.is_dir():
        config, weights = folder / CONFIG, folder / WEIGHTS
        for file in (config, weights):
            if not file.is_file():
                raise InterfaceError("from_pretrained", f"{file.name} in {str(folder)!r}", "none")
        return config, weights
    # A hub id is a string with at most one slash; anything else can only be a folder.
    if isinstance(source, Path) or source.count("/") > 1 or source.startswith((".", "/", "~")):
        raise InterfaceError(
            "from_pretrained", "a folder or a hub id", f"no folder {str(source)!r}"
        )
    return _hub().fetch(source, CONFIG, **options), _hub().fetch(source, WEIGHTS, **options)


def _described(path: Path) -> dict[str, Any]:
    """Read ``config.json`` and check its three keys."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InterfaceError(str(path), "JSON", error) from error
    kinds = {"version": int, "interface": str, "options": dict}
    if not isinstance(described, dict) or set(described) != set(kinds):
        found = _list(described) if isinstance(described, dict) else type(described).__name__
        raise InterfaceError(str(path), f"the keys {', '.join(kinds)}", found)
    for key, kind in kinds.items():
        if not isinstance(described[key], kind):
            raise InterfaceError(f"{path}: {key}", f"of type {kind.__name__}", described[key])
    if described["version"] != VERSION:
        raise InterfaceError(f"{path}: version", str(VERSION), described["version"])
    return described


def _hub() -> ModuleType:
    """Import what writes, reads and shares files."""
    try:
        return import_module("SSL_Interface._hub")
    except ModuleNotFoundError as error:
        raise InterfaceError(
            "saving and loading",
            "the packages huggingface_hub and safetensors (pip install both)",
            f"no package {error.name!r}",
        ) from error
