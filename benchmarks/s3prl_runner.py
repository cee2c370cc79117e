"""s3prl's own trainer, set up for SUPERB PR with an interface in the featurizer's place.

Everything that a step runs is s3prl's: ``s3prl/downstream/runner.py`` (``Runner.train``),
``s3prl/upstream/<kind>/expert.py``, ``s3prl/upstream/interfaces.py`` (``Featurizer``),
``s3prl/downstream/ctc/expert.py`` (two linear layers, CTC, greedy decoding of every training batch)
and ``s3prl/optimizers.py``. The recipe is that of ``s3prl/downstream/ctc/libriphone.yaml`` in
s3prl's repository, which its package leaves out: Adam 1e-2, clip 1, projection to 256,
zero_infinity. It adds up the gradients of two batches of 16 utterances; here every batch is an
update.
"""

import importlib
import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from others import load, load_published
from speechlike import CLASSES, FIRST_PHONE
from torch import Tensor, nn

import SSL_Interface
from ssl_bench.upstreams.s3prl import hub

PLAIN_FORMS = Path(__file__).parents[1] / "tests" / "interfaces" / "plain.py"
TABLE_1: dict[str, tuple[str, dict[str, Any]]] = {
    "weighted_sum": ("weighted_sum", {}),
    "grouped_2": ("grouped_weighted_sum", {"groups": 2}),
    "grouped_3": ("grouped_weighted_sum", {"groups": 3}),
    "grouped_4": ("grouped_weighted_sum", {"groups": 4}),
    "concat": ("concat", {}),
    "pca_concat": ("pca_concat", {}),
    "hconv": ("hconv", {}),
    "cls_pooling": ("cls_pooling", {}),
}
"""The paper's Table 1 by the names of ``config/paper.yaml``: kind and options."""


LOGGED, PUSHED, COUNTED = "tensorboardX", "huggingface_hub", "editdistance"
"""What s3prl imports for its log, for pushing a model and for the error rate in the log."""


def make(
    interface: str,
    kind: str,
    checkpoint: Path,
    waveforms: Sequence[Tensor],
    folder: Path,
    device: str = "cpu",
    published: Path | None = None,
) -> Any:
    """Make s3prl's ``Runner`` with its upstream, an interface and its PR head, all in fp32.

    The weighted sum is s3prl's featurizer. Another interface takes the place of the sum within that
    featurizer, which still selects the states and cuts its output to a list: HConv as the published
    package has it where its folder is given, all others in the plain form that the library's tests
    compare with.

    Args:
        interface: a name of ``TABLE_1``.
        kind: entry of ``s3prl.hub`` that opens ``checkpoint``.
        waveforms: what PCA is fitted on, (samples,) each.
        folder: for the list of phones that the head is made from.
        published: folder of the package published with the paper (``benchmarks/interfaces.py``).
    """
    if interface not in TABLE_1:
        raise SystemExit(f"--interfaces: no {interface!r}, expected some of {', '.join(TABLE_1)}")
    module = runner_module()
    runner = module.Runner(arguments(kind, checkpoint, folder, device), recipe(folder))
    if interface == "weighted_sum":
        return runner
    featurizer = runner.featurizer.model
    layers, dim = featurizer.layer_num, featurizer.output_dim
    if interface == "hconv" and published is not None:
        joined, form = published_hconv(published, layers, dim), None
    else:
        name, options = TABLE_1[interface]
        joined = SSL_Interface.create(name, layers, dim, **options)
        form = plain(name, joined)
    joined = joined.to(device)
    if getattr(joined, "needs_fit", False):
        fit(joined, runner.upstream.model, waveforms, device)
    put_in_place(featurizer, joined, form or joined)
    runner.downstream = runner._get_downstream()  # again: the width may be another
    runner.all_entries = [runner.upstream, runner.featurizer, runner.downstream]
    return runner


def put_in_place(
    featurizer: nn.Module, interface: nn.Module, form: Callable[[Tensor], Tensor]
) -> None:
    """Give s3prl's featurizer another interface instead of its weighted sum.

    Args:
        form: states (L, B, T, D) → (B, T, interface.output_dim).
    """
    del featurizer.weights
    featurizer.interface = interface
    featurizer.output_dim = interface.output_dim
    featurizer._weighted_sum = lambda states: form(torch.stack(list(states)))


def plain(name: str, interface: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the plain form of an interface, over that interface's parameters."""
    forms = load("plain", PLAIN_FORMS)
    return lambda states: forms.PLAIN[name](interface, forms.prepare(interface, states))


def published_hconv(folder: Path, layers: int, dim: int) -> nn.Module:
    """Make HConv of the published package, which takes no other width than the natural one."""
    package = load_published(folder)
    width = SSL_Interface.create("hconv", layers, dim).output_dim
    config = package.configs.HierarchicalConvInterfaceConfig(
        upstream_layer_num=layers, upstream_feat_dim=dim, normalize=False, output_dim=width
    )
    return package.interfaces.HierarchicalConvInterface(config)


@torch.no_grad()
def fit(
    interface: nn.Module, upstream: nn.Module, waveforms: Sequence[Tensor], device: str
) -> None:
    """Fit PCA on the states of some utterances, one at a time."""
    for wave in waveforms:
        states = upstream([wave.to(device)])["hidden_states"]
        interface.fit_batch(torch.stack(list(states)).float())
    interface.fit_finish()


def arguments(kind: str, checkpoint: Path, folder: Path, device: str) -> Namespace:
    """What ``run_downstream.py -m train -u <kind> -k <checkpoint> -d ctc`` hands to the runner."""
    return Namespace(
        init_ckpt=None,
        expdir=str(folder),
        device=device,
        upstream=kind,
        upstream_ckpt=str(checkpoint),
        upstream_model_config=None,
        upstream_refresh=False,
        upstream_trainable=False,
        upstream_feature_selection="hidden_states",
        upstream_layer_selection=None,
        upstream_feature_normalize=False,
        downstream="ctc",
        push_to_hf_hub=False,
    )


def recipe(folder: Path) -> dict[str, Any]:
    """The configuration of PR; :func:`run_for` sets the number of steps.

    Writes phones.txt, a list of as many phones as SUPERB PR has.
    """
    phones = folder / "phones.txt"
    phones.write_text("".join(f"P{n}\n" for n in range(CLASSES - FIRST_PHONE)))
    return {
        "runner": {"gradient_clipping": 1, "gradient_accumulate_steps": 1},
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-2},
        "downstream_expert": {
            "corpus": {"name": "libriphone"},
            "text": {"mode": "word", "vocab_file": str(phones)},
            "model": {"project_dim": 256, "zero_infinity": True, "select": "FrameLevel"},
            "metric": ["per"],
            "metric_higher_better": False,
        },
    }


def run_for(runner: Any, steps: int) -> None:
    """Train for so many steps; log at the last, and neither evaluate nor save."""
    never = steps + 1
    runner.config["runner"] |= {
        "total_steps": steps,
        "log_step": steps,
        "eval_step": never,
        "save_step": never,
    }
    runner.train()


def runner_module() -> ModuleType:
    """Import ``s3prl.downstream.runner`` and the experts that it will ask for."""
    hub()
    with stand_ins():
        importlib.import_module("s3prl.downstream.ctc.expert")
        return importlib.import_module("s3prl.downstream.runner")


@contextmanager
def stand_ins() -> Iterator[None]:
    """Give s3prl names that are not installed, and that no training step calls.

    tensorboardX writes the log; editdistance counts errors for it; ``HfFolder`` and ``Repository``,
    which huggingface_hub 1.0 took away, push a model. The log of a timed run is not written.
    """
    log = ModuleType(LOGGED)
    log.SummaryWriter = SilentWriter
    needed = (log, ModuleType(COUNTED))
    missing = [module for module in needed if importlib.util.find_spec(module.__name__) is None]
    pushing = importlib.import_module(PUSHED)
    names = [name for name in ("HfFolder", "Repository") if not hasattr(pushing, name)]
    for module in missing:
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
    for name in names:
        setattr(pushing, name, None)
    try:
        yield
    finally:
        for module in missing:
            del sys.modules[module.__name__]
        for name in names:
            delattr(pushing, name)


class SilentWriter:
    """Stands in for ``tensorboardX.SummaryWriter``."""

    def __init__(self, folder: str) -> None:
        del folder

    def close(self) -> None:
        """Close nothing."""
