"""Whisper's encoder, of Hugging Face transformers.

States follow the order of the other encoders: state i is the input of block i, so state 0 is the
convolved log-mel spectrogram with positions added, and the last state is the encoder's output, the
only one behind the final LayerNorm. Whisper was trained on 30 s windows and has no mask: every
recording is continued with silence to a full window, so nothing depends on the batch, and a longer
one is refused.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.errors import StudyError
from ssl_bench.upstreams._blocks import BlockInputs
from ssl_bench.upstreams._hugging_face import HuggingFaceConfig, read_architecture, read_model
from ssl_bench.upstreams._masking import frame_mask
from ssl_bench.upstreams.base import Parts, Upstream

HOP = 160
"""Samples between two frames of the spectrogram; the second convolution halves their rate."""
SHORTEST = 400
"""Samples (25 ms): one window of the spectrogram, as the other encoders ask for."""
WINDOWS = 8
"""Windows encoded at once: a batch of short recordings would else be a batch of full windows."""


class Config(HuggingFaceConfig):
    """Keys of an upstream of kind ``whisper``."""


class WhisperUpstream(Upstream):
    """The encoder and its log-mel spectrogram.

    Args:
        encoder: ``WhisperEncoder``.
    """

    stride = 2 * HOP

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        from transformers import WhisperFeatureExtractor

        self.encoder = encoder.requires_grad_(False)
        self.encoder.layerdrop = 0.0  # type: ignore[assignment]
        parts: Any = encoder
        self.window = int(parts.config.max_source_positions) * self.stride
        self.spectrogram = WhisperFeatureExtractor(feature_size=parts.config.num_mel_bins)
        self._inputs = BlockInputs(parts.layers)

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`: every frame that begins within the recording."""
        return -(-samples // self.stride)

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`.

        Raises:
            StudyError: a waveform is shorter than 25 ms or longer than the window.
        """
        samples = [len(wave) for wave in waveforms]
        for found in (min(samples), max(samples)):
            if not SHORTEST <= found <= self.window:
                raise StudyError(
                    f"upstream: a recording has {found} samples at 16 kHz, expected {SHORTEST} to "
                    f"{self.window} ({self.window / SAMPLE_RATE:g} s, Whisper's window)"
                )
        lengths = torch.tensor([self.frames(n) for n in samples], device=waveforms[0].device)
        frames = int(lengths.max())
        parts = [
            self._states(waveforms[start : start + WINDOWS], frames)
            for start in range(0, len(waveforms), WINDOWS)
        ]
        valid = frame_mask(lengths, frames)
        return torch.cat(parts, 1) * valid[None, :, :, None], lengths

    def _states(self, waveforms: list[Tensor], frames: int) -> Tensor:
        """Return (L, B, frames, D), copied out of whole windows."""
        with self._inputs as inputs:
            last = self.encoder(self._spectrogram(waveforms)).last_hidden_state
            return torch.stack([state[:, :frames] for state in (*inputs, last)])

    def _spectrogram(self, waveforms: list[Tensor]) -> Tensor:
        """Return (B, mels, window / 160), each normalised by its own maximum, in fp32."""
        device = waveforms[0].device
        with torch.autocast(device.type, enabled=False):
            return self.spectrogram(
                [wave.cpu().numpy() for wave in waveforms],
                sampling_rate=SAMPLE_RATE,
                padding="max_length",
                max_length=self.window,
                return_tensors="pt",
                device=str(device),
            ).input_features.to(device)


def load(config: Config) -> WhisperUpstream:
    """Load an encoder on the CPU in fp32; the decoder is dropped.

    Raises:
        StudyError: the model cannot be found, is not a Whisper, or its weights do not fit.
    """
    architecture = read_architecture(config, ("whisper",))
    model, files = read_model(config, architecture, ("encoder.",), unused=())
    parts: Any = model
    upstream = WhisperUpstream(parts.get_encoder()).eval()
    upstream.files = files
    return upstream


def parts(upstream: WhisperUpstream) -> Parts:
    """Return the encoder's blocks, its convolutions over frames and its sinusoids."""
    encoder: Any = upstream.encoder
    convolutions = (encoder.conv1, encoder.conv2)
    return Parts(tuple(encoder.layers), convolutions, (encoder.embed_positions,), (encoder,))
