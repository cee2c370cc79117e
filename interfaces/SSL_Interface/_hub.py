"""huggingface_hub's mixin around an interface. Imported by ``sharing`` when it is used."""

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, contiguous_format

from SSL_Interface.errors import InterfaceError
from SSL_Interface.registry import one_of
from SSL_Interface.sharing import CONFIG, WEIGHTS, Shareable, describe

CARD = "README.md"


def _options(call: Callable[..., Any], *ours: str) -> list[str]:
    """List the keywords of a call of huggingface_hub, without those that are set here."""
    parameters = inspect.signature(call).parameters.values()
    keywords = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [name for name in keywords if name not in ours]


OPTIONS = {
    "from_pretrained": _options(hf_hub_download, "dry_run"),
    "push_to_hub": _options(ModelHubMixin.push_to_hub, "config"),
}


def check_options(method: str, options: dict[str, Any]) -> None:
    """Check that huggingface_hub has such options.

    Raises:
        InterfaceError: one is unknown.
    """
    for option in options:
        if option not in OPTIONS[method]:
            raise InterfaceError(f"{method}: option", one_of(option, OPTIONS[method]), repr(option))


def save(interface: Shareable, folder: Path) -> None:
    """Write the files aside, then move them into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as aside:
        written = Path(aside) / "files"
        _Hub(interface).save_pretrained(written, config=describe(interface))
        if not (folder / CARD).exists():
            (written / CARD).replace(folder / CARD)
        # Without its config, the folder is not loaded while the weights are exchanged.
        (folder / CONFIG).unlink(missing_ok=True)
        (written / WEIGHTS).replace(folder / WEIGHTS)
        (written / CONFIG).replace(folder / CONFIG)


def push(interface: Shareable, repo_id: str, **options: Any) -> str:
    """Upload the files in one commit and return its address."""
    check_options("push_to_hub", options)
    return _Hub(interface).push_to_hub(repo_id, config=describe(interface), **options)


def read(path: Path) -> dict[str, Tensor]:
    """Read tensors onto the CPU.

    Raises:
        InterfaceError: it is no safetensors file.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InterfaceError(str(path), "a safetensors file", error) from error
    # They lie in the mapped file at any offset; in torch's own memory, which is aligned, products
    # round as they did before saving.
    return {key: tensor.clone() for key, tensor in tensors.items()}


def fetch(repo_id: str, name: str, **options: Any) -> Path:
    """Download one file into the hub's cache.

    Raises:
        InterfaceError: there is no such repository or file, or no way to the hub.
    """
    try:
        return Path(hf_hub_download(repo_id, name, **options))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        why = str(error).strip().partition("\n")[0]
        raise InterfaceError(
            "from_pretrained", f"a folder, or {name} of a hub repository", f"{repo_id!r} ({why})"
        ) from error


class _Hub(ModelHubMixin):
    """What the mixin is to write of an interface: its tensors and its card."""

    def __init__(self, interface: Shareable) -> None:
        self.interface = interface

    def _save_pretrained(self, save_directory: Path) -> None:
        # Cloned, since tensors that share memory cannot be saved.
        tensors = {
            key: tensor.detach().clone(memory_format=contiguous_format)
            for key, tensor in self.interface.state_dict().items()
        }
        save_file(tensors, save_directory / WEIGHTS, metadata={"format": "pt"})

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        interface, name = self.interface, describe(self.interface)["interface"]
        purpose = (inspect.getdoc(type(interface)) or "").partition("\n")[0]
        data = ModelCardData(library_name="SSL_Interface", tags=["speech", "ssl-interface"])
        rows = interface.card_rows() | {
            "features that it gives": f"batch × frames × {interface.output_dim}",
            "trainable parameters": f"{interface.parameter_count():,}",
        }
        table = "\n".join(f"| {what} | {value} |" for what, value in rows.items())
        return ModelCard(
            f"""---
{data.to_yaml()}
---

# {name}

Made with the library `SSL_Interface`, which joins the hidden states of self-supervised speech
models into the features that a task head reads.

{purpose}

| | |
|---|---|
{table}

```python
import SSL_Interface

interface = SSL_Interface.from_pretrained("this folder, or its id on the hub")
features = interface(states, lengths)
```
"""
        )
