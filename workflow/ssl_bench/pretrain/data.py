"""Clips and targets, in the device's memory where they fit."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_bench.errors import StudyError


class Clips:
    """Generated clips, int16 on disk, handed out as float32 batches on a device.

    Sixty hours are 6.9 GB: they are put on the GPU when that leaves most of it free, else they are
    read from the (cached) file.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        if not path.is_file():
            raise StudyError(
                f"{path}: no clips; make them first with: python -m ssl_bench.pretrain speech"
            )
        stored = np.load(path, mmap_mode="r")
        self.device = device
        self.count, self.samples = stored.shape
        self.host = stored
        self.resident: Tensor | None = None
        if device.type == "cuda" and stored.nbytes < 0.4 * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.empty(stored.shape, dtype=torch.int16, device=device)
            for start in range(0, self.count, 1024):
                part = np.array(stored[start : start + 1024])
                self.resident[start : start + 1024] = torch.from_numpy(part).to(device)

    def batch(self, indices: Tensor) -> Tensor:
        """Return (len(indices), samples) float32 in −1…1 for indices on the CPU."""
        if self.resident is not None:
            chosen = self.resident[indices.to(self.device, non_blocking=True)]
        else:
            chosen = torch.from_numpy(self.host[indices.numpy()]).to(self.device)
        return chosen.float() / 32768

    def chunks(self, size: int) -> list[Tensor]:
        """Return the indices of all clips, in order, ``size`` at a time."""
        return list(torch.arange(self.count).split(size))


def save_targets(path: Path, targets: Tensor) -> None:
    """Write (clips, T) class numbers as uint16."""
    np.save(path, targets.cpu().numpy().astype(np.uint16))


def load_targets(paths: list[Path], device: torch.device) -> Tensor:
    """Return (heads, clips, T) int16 on a device.

    Raises:
        StudyError: a file is missing.
    """
    for path in paths:
        if not path.is_file():
            raise StudyError(f"{path}: no targets; run the step that makes them first")
    stack = np.stack([np.load(path) for path in paths]).astype(np.int16)
    return torch.from_numpy(stack).to(device)
