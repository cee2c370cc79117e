"""Model selection: which of the evaluated weights of each run are kept, and their mean."""

import numpy as np
import torch

from ssl_bench.runs import Runs


class Selection:
    """The best weights of each run so far, ``count`` of them.

    One kept copy stays on the runs' device. Several are held in the host's memory, since they are
    written a few times and may be large.
    """

    def __init__(self, runs: Runs, count: int) -> None:
        home = runs.device if count == 1 else torch.device("cpu")
        self.runs = runs
        self.merit = np.full((count, len(runs)), -np.inf)
        self.steps = np.zeros((count, len(runs)), int)
        self._held = [{k: v.to(home) for k, v in runs.snapshot().items()} for _ in range(count)]

    def offer(self, merit: np.ndarray, step: int) -> None:
        """Keep each run's weights of now where they are better than the worst that is kept.

        Args:
            merit: (R,), higher is better; NaN is never kept.
            step: the step that the weights are of.
        """
        own = np.arange(len(self.runs))
        worst = self.merit.argmin(axis=0)
        better = np.nan_to_num(merit, nan=-np.inf) > self.merit[worst, own]
        for slot, held in enumerate(self._held):
            which = better & (worst == slot)
            if which.any():
                self.runs.keep(held, torch.from_numpy(which))
                self.merit[slot, which] = merit[which]
                self.steps[slot, which] = step

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that :meth:`offer` changes, as it is: none is a copy."""
        held = {
            f"held.{slot}.{name}": value
            for slot, own in enumerate(self._held)
            for name, value in own.items()
        }
        numbers = {"merit": self.merit, "kept_steps": self.steps}
        return held | {name: torch.from_numpy(value) for name, value in numbers.items()}

    @property
    def best_steps(self) -> np.ndarray:
        """The step of each run's best kept weights, (R,); 0 if none is kept."""
        return self.steps[self.merit.argmax(axis=0), np.arange(len(self.runs))]

    def apply(self) -> None:
        """Set every run to the mean of its kept weights; one without any keeps its first."""
        kept = np.isfinite(self.merit)
        kept[0] |= ~kept.any(axis=0)
        share = torch.from_numpy(kept / kept.sum(axis=0))
        mean = {}
        for name, value in self._held[0].items():
            ones = (-1,) + (1,) * (value.dim() - 1)
            parts = [
                held[name] * share[slot].to(value).view(ones)
                for slot, held in enumerate(self._held)
            ]
            mean[name] = torch.stack(parts).sum(0) if len(parts) > 1 else value
        self.runs.restore(mean)
