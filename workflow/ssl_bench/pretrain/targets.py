"""What is predicted: clusters of MFCC or of hidden states, and classes of pitch.

All features are at the encoder's frames: frame t is computed around sample 320 t + 200.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_bench.pretrain.settings import RECEPTIVE_FIELD, SAMPLE_RATE, STRIDE

LOWEST_PITCH, HIGHEST_PITCH = 60.0, 400.0
PITCH_WINDOW = 800
VOICED = 0.45


class MFCC:
    """HuBERT's first targets: 13 MFCC with first and second differences, 39 values a frame."""

    def __init__(self, device: torch.device) -> None:
        # torchaudio is needed for this alone.
        from torchaudio.transforms import MFCC as Transform

        self.transform = Transform(
            SAMPLE_RATE,
            n_mfcc=13,
            log_mels=True,
            melkwargs={"n_fft": 400, "hop_length": 160, "n_mels": 23, "f_min": 20, "center": False},
        ).to(device)

    def __call__(self, clips: Tensor) -> Tensor:
        """Return (B, T, 39) for clips (B, samples) in −1…1."""
        from torchaudio.functional import compute_deltas

        static = self.transform(clips)
        delta = compute_deltas(static)
        both = torch.cat([static, delta, compute_deltas(delta)], 1)
        # 10 ms frames start at 160 j, the encoder's at 320 t, and both are 400 samples long.
        return both[..., :: STRIDE // 160].transpose(1, 2)


def pitch_classes(clips: Tensor, bins: int) -> Tensor:
    """Return (B, T) int64 for clips (B, samples): 0 unvoiced, 1…bins by log F0 of 60 to 400 Hz.

    F0 is the strongest lag of the autocorrelation divided by the window's own (Boersma 1993), the
    shortest of those nearly as strong so that no octave is lost.
    """
    half = PITCH_WINDOW // 2 - RECEPTIVE_FIELD // 2
    count = (clips.shape[1] - RECEPTIVE_FIELD) // STRIDE + 1
    spans = F.pad(clips, (half, half)).unfold(1, PITCH_WINDOW, STRIDE)[:, :count]
    window = torch.hann_window(PITCH_WINDOW, device=clips.device)
    energy = spans.square().mean(2)
    spans = (spans - spans.mean(2, keepdim=True)) * window
    longest, shortest = int(SAMPLE_RATE / LOWEST_PITCH), int(SAMPLE_RATE / HIGHEST_PITCH)
    own = _autocorrelation(window)
    found = _autocorrelation(spans) / (own / own[0])
    found = found / (found[..., :1] + 1e-10)
    inside = found[..., shortest : longest + 1]
    peak = (inside >= found[..., shortest - 1 : longest]) & (
        inside >= found[..., shortest + 1 : longest + 2]
    )
    strength = torch.where(peak, inside, torch.zeros_like(inside))
    best = strength.max(2).values
    near = strength >= 0.85 * best[..., None]
    lag = near.float().argmax(2) + shortest
    # A frame 35 dB below its clip's mean level is silence, whatever its periodicity.
    audible = energy > clips.square().mean(1, keepdim=True) * 10**-3.5
    position = torch.log(SAMPLE_RATE / lag / LOWEST_PITCH) / math.log(HIGHEST_PITCH / LOWEST_PITCH)
    classes = 1 + (position * bins).long().clamp(0, bins - 1)
    return torch.where((best > VOICED) & audible, classes, torch.zeros_like(classes))


def _autocorrelation(x: Tensor) -> Tensor:
    """Return the first half of the autocorrelation along the last axis."""
    return torch.fft.irfft(torch.fft.rfft(x, 2 * PITCH_WINDOW).abs().square())[..., :PITCH_WINDOW]


def fit_kmeans(points: Tensor, clusters: int, rounds: int, rng: torch.Generator) -> Tensor:
    """Return centres (clusters, D) of points (N, D): k-means++ seeds, then Lloyd rounds.

    A cluster that loses all its points restarts at a random point.
    """
    if len(points) < clusters:
        raise ValueError(f"k-means: {len(points)} points for {clusters} clusters")
    device = points.device
    first = torch.randint(len(points), (1,), generator=rng, device=device)
    centres = points[first]
    distance = (points - centres).square().sum(1)
    for _ in range(clusters - 1):
        draw = torch.rand(1, generator=rng, device=device, dtype=torch.float64)
        total = distance.double().cumsum(0)
        chosen = torch.searchsorted(total, draw * total[-1]).clamp(max=len(points) - 1)
        centres = torch.cat([centres, points[chosen]])
        distance = torch.minimum(distance, (points - points[chosen]).square().sum(1))
    for _ in range(rounds):
        labels = assign(points, centres)
        count = torch.bincount(labels, minlength=clusters)
        total = torch.zeros_like(centres).index_add_(0, labels, points)
        fresh = points[torch.randint(len(points), (clusters,), generator=rng, device=device)]
        centres = torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], fresh)
    return centres


def assign(points: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre (N,) int64 of each point (N, D)."""
    norms = centres.square().sum(1)
    chunks = points.split(1 << 18)
    return torch.cat([(norms - 2 * chunk @ centres.T).argmin(1) for chunk in chunks])
