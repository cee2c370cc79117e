"""The steps of pre-training after the speech: first iteration, second iteration.

Below the work folder: ``clips.npy``, ``speech.json``; ``mfcc.npy``, ``pitch.npy``, ``hidden.npy``
(class numbers of every frame); ``first/`` (the first model) and ``first.json``; ``kept/``, the
checkpoints of trainings that are not done and the marks (``done.py``) of steps that are.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_bench.checkpoints import Checkpoints, discard
from ssl_bench.device import hold, lease
from ssl_bench.errors import StudyError, suggest
from ssl_bench.pretrain import package
from ssl_bench.pretrain.data import Clips, load_targets, save_targets
from ssl_bench.pretrain.model import PretrainingModel
from ssl_bench.pretrain.settings import Settings
from ssl_bench.pretrain.targets import MFCC, assign, fit_kmeans, pitch_classes
from ssl_bench.pretrain.training import Trainer

CHUNK = 96
AFTER_TRAINING = 0.4
"""Minutes kept back for what follows a training with a time limit."""

Features = Callable[[Tensor], Tensor]
Log = Callable[[str], None]


def known(name: str) -> torch.device:
    """Return a device by name; nothing is started on it.

    Raises:
        StudyError: a GPU is asked for where there is none.
    """
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise StudyError(f"pretrain: unknown device {name!r}, expected cpu or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise StudyError(
            f"pretrain: device {name!r} asked for, {torch.cuda.device_count()} GPUs found"
        )
    return found


def device(name: str) -> torch.device:
    """Return a device by name, the current one if it is a GPU.

    Raises:
        StudyError: see :func:`known`.
    """
    found = known(name)
    if found.type == "cuda":
        found = torch.device("cuda", found.index or 0)
        torch.cuda.set_device(found)
    return found


@contextmanager
def leased(name: str) -> Iterator[torch.device]:
    """Hold a device by name, with ``cuda`` whichever GPU is free, with ``auto`` else the CPU.

    Raises:
        StudyError: see :func:`known`; there is no place for the locks.
    """
    if name != "auto":
        known(name)
    with lease(name) if name in ("auto", "cuda") else hold(device(name)) as found:
        yield found


def first(
    settings: Settings,
    work: Path,
    where: torch.device,
    *,
    minutes: float | None = None,
    compiled: bool = True,
    log: Log = print,
) -> None:
    """Cluster MFCC, train the first model on them, cluster its hidden states."""
    begin = time.perf_counter()
    clips = Clips(work / "clips.npy", where)
    rng = torch.Generator(where).manual_seed(settings.seed)
    targets = settings.targets
    mfcc = MFCC(where)
    labels = _cluster(clips, mfcc, targets.mfcc_clusters, settings, rng)
    save_targets(work / "mfcc.npy", labels)
    pitch = torch.cat([pitch_classes(x, targets.pitch_bins) for x in _clean(clips)])
    save_targets(work / "pitch.npy", pitch)
    log(
        f"first: MFCC and pitch targets after {time.perf_counter() - begin:.1f} s, "
        f"{100 * (pitch > 0).float().mean():.0f} % of frames voiced"
    )
    torch.manual_seed(settings.seed)
    size = settings.sizes[settings.first_size]
    model = PretrainingModel(size, settings.loss, [targets.mfcc_clusters]).to(where)
    trainer = Trainer(
        settings,
        settings.first,
        model,
        clips,
        labels[None].to(where).short(),
        minutes=_left(minutes, begin),
        compiled=compiled,
        kept=_kept(work, "first", settings, where, labels, compiled) if minutes is None else None,
    )
    report = trainer.train(log)
    model.hubert.save_pretrained(work / "first")
    model.eval()

    def hidden(batch: Tensor) -> Tensor:
        waves = batch - batch.mean(1, keepdim=True)
        waves = F.layer_norm(waves, waves.shape[1:])
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            state = model.encode(waves, None, targets.layer)[-1]
        # Residuals of a pre-norm model grow with depth; HuBERT's own (post-norm) are normalised.
        return F.layer_norm(state.float(), state.shape[-1:])

    with torch.no_grad():
        labels = _cluster(clips, hidden, targets.clusters, settings, rng)
    save_targets(work / "hidden.npy", labels)
    used = len(labels.unique())
    record = asdict(report) | {"clusters_used": used, "hardware": package.hardware(where)}
    (work / "first.json").write_text(json.dumps(record, indent=2) + "\n")
    discard(kept_in(work, "first"))
    log(f"first: {used} of {targets.clusters} clusters in use, {time.perf_counter() - begin:.0f} s")


def second(
    settings: Settings,
    work: Path,
    out: Path,
    size: str,
    where: torch.device,
    *,
    minutes: float | None = None,
    compiled: bool = True,
    log: Log = print,
) -> Path:
    """Train a model of a size on the first model's clusters; return the folder it is saved in."""
    begin = time.perf_counter()
    if size not in settings.sizes:
        raise StudyError(f"pretrain: unknown size {size!r}; {suggest(size, settings.sizes)}")
    second = f"second-{size}"
    paths = [work / f"{name}.npy" for name in ("hidden", "mfcc", "pitch")]
    labels = load_targets(paths, where)
    clips = Clips(work / "clips.npy", where)
    targets = settings.targets
    classes = [targets.clusters, targets.mfcc_clusters, targets.pitch_bins + 1]
    torch.manual_seed(settings.seed + 1)
    model = PretrainingModel(settings.sizes[size], settings.loss, classes).to(where)
    trainer = Trainer(
        settings,
        settings.second,
        model,
        clips,
        labels,
        minutes=_left(minutes, begin),
        compiled=compiled,
        kept=_kept(work, second, settings, where, labels, compiled) if minutes is None else None,
    )
    report = trainer.train(lambda line: log(f"[{size}] {line}"))
    folder = package.save(settings, size, model.hubert.cpu(), report, work, out, where, minutes)
    discard(kept_in(work, second))
    log(f"[{size}] {folder} after {time.perf_counter() - begin:.0f} s")
    return folder


def kept_in(work: Path, step: str) -> Path:
    """Return the folder of a step's checkpoints."""
    return work / "kept" / step


def _kept(
    work: Path, step: str, settings: Settings, where: torch.device, labels: Tensor, compiled: bool
) -> Checkpoints:
    """Return the checkpoints of a training, stamped with all that determines it."""
    record = work / "speech.json"
    return Checkpoints(
        kept_in(work, step),
        f"pretrain {step}",
        where,
        (settings.first if step == "first" else settings.second).steps,
        settings=settings.as_dict(),
        step=step,
        compiled=compiled,
        clips=json.loads(record.read_text())["sha256"] if record.is_file() else None,
        targets=zlib.crc32(labels.cpu().numpy().data),
    )


def _left(minutes: float | None, begin: float) -> float | None:
    if minutes is None:
        return None
    return max(minutes - (time.perf_counter() - begin) / 60 - AFTER_TRAINING, 0.05)


def _clean(clips: Clips) -> Iterator[Tensor]:
    for indices in clips.chunks(CHUNK):
        yield clips.batch(indices)


def _cluster(
    clips: Clips, features: Features, clusters: int, settings: Settings, rng: torch.Generator
) -> Tensor:
    """Fit k-means on a sample of clips and return every clip's classes (clips, T), int16."""
    order = torch.randperm(clips.count, generator=torch.Generator().manual_seed(settings.seed))
    points: list[Tensor] = []
    for indices in order.split(CHUNK):
        points.append(features(clips.batch(indices)).flatten(0, 1))
        if sum(map(len, points)) >= settings.targets.sample:
            break
    centres = fit_kmeans(torch.cat(points), clusters, settings.targets.rounds, rng)
    labels = []
    for batch in _clean(clips):
        found = features(batch)
        labels.append(assign(found.flatten(0, 1), centres).view(found.shape[:2]).short())
    return torch.cat(labels)
