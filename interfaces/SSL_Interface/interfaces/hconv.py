"""Hierarchical convolution over layers, HConv (arXiv 2406.12209, section 2).

At every frame the L states are a sequence of length L with D channels:

    x_0 = [h_0, …, h_{L−1}]
    x_i = ReLU(Conv1d_i(x_{i−1}))      kernel 5, stride 3, padding 2; ⌊log_stride L⌋ of them
    y = flatten(x_last)                 channel-major: index = channel · L' + position

Every convolution has D channels, the last one ⌊D / L'⌋ for its L' positions. The natural width is
⌊D / L'⌋ · L' (768 at 13×768: 13 → 5 → 2; 1023 at 25×1024: 25 → 9 → 3). An ``output_dim`` other than
the natural width adds a linear projection to it, which neither paper nor published package has.
Fewer layers than the stride give one convolution, not none: the published class then passes on all
states side by side, wider than the width it declares.

States (L, B, T, D) → (B, T, output_dim). Parameters (natural width): 4,424,832 at 13×768,
6,990,165 at 25×1024.

A convolution over a handful of positions is a matrix product for each of them: frame by frame, a
window of k neighbouring states is one vector of k·D, and the layers that the window shares with
the padding are left out of the product.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.windows import Windows, window_products
from SSL_Interface.working import side_by_side


@dataclass
class HConvConfig(InterfaceConfig):
    """Shape of the convolutions, and a width for the features (None: the natural one)."""

    kernel_size: int = 5
    stride: int = 3
    output_dim: int | None = None


class HConv(Interface):
    """Convolve over the layer axis until few positions are left, then flatten them."""

    Config = HConvConfig
    stacks_frames = True

    def __init__(self, config: HConvConfig) -> None:
        super().__init__(config)
        if len(self.layers) < 2:
            raise self.error("layers", "at least 2 layers", len(self.layers))
        self.kernel_size = self.positive("kernel_size", config.kernel_size)
        self.stride = self.positive("stride", config.stride)
        if self.stride < 2:
            raise self.error("stride", "at least 2", self.stride)
        self.positions = positions(len(self.layers), self.kernel_size, self.stride)
        if self.dim < self.positions[-1]:
            raise self.error("dim", f"at least {self.positions[-1]}, the last length", self.dim)
        # Published names (transforms.0, transforms.2, …); only their parameters are used.
        self.transforms = nn.Sequential()
        for channels in self._channels():
            self.transforms.append(
                nn.Conv1d(self.dim, channels, self.kernel_size, self.stride, self.kernel_size // 2)
            )
            self.transforms.append(nn.ReLU())
        natural = channels * self.positions[-1]
        width = natural if config.output_dim is None else config.output_dim
        self._output_dim = self.positive("output_dim", width)
        self.projection = nn.Linear(natural, width) if width != natural else nn.Identity()
        self.one_type = width != natural

    @override
    def join(self, states: Tensor) -> Tensor:
        rows = side_by_side(states)  # (B, T, N·D)
        lengths = self.positions
        for index, length in enumerate(lengths[:-1]):
            weight, bias = self.transforms[2 * index].parameters()
            rows = window_products(rows, weight, bias, self._windows(length))
        channel_major = rows.unflatten(-1, (lengths[-1], -1)).transpose(-1, -2).flatten(-2)
        return self.projection(channel_major)

    @override
    def macs_per_frame(self) -> int:
        macs = 0 if isinstance(self.projection, nn.Identity) else self.projection.weight.numel()
        for channels, length in zip(self._channels(), self.positions[:-1], strict=True):
            macs += sum(last - first for first, last, _ in self._windows(length)) * (
                self.dim * channels
            )
        return macs

    def _channels(self) -> list[int]:
        """Output channels of each convolution."""
        return [self.dim] * (len(self.positions) - 2) + [self.dim // self.positions[-1]]

    def _windows(self, length: int) -> Windows:
        """For each output position: first and last + 1 real position, and the window's start."""
        padding = self.kernel_size // 2
        starts = range(-padding, length + padding - self.kernel_size + 1, self.stride)
        return [(max(0, start), min(length, start + self.kernel_size), start) for start in starts]


def positions(num_layers: int, kernel_size: int = 5, stride: int = 3) -> list[int]:
    """Lengths of the layer axis before and after each convolution, e.g. [13, 5, 2]."""
    depth = max(1, math.floor(math.log(num_layers) / math.log(stride)))
    lengths = [num_layers]
    for _ in range(depth):
        lengths.append((lengths[-1] + 2 * (kernel_size // 2) - kernel_size) // stride + 1)
    return lengths


def hconv_parameters(num_layers: int, dim: int, kernel_size: int = 5, stride: int = 3) -> int:
    """Parameters of HConv at its natural width."""
    lengths = positions(num_layers, kernel_size, stride)
    outputs = (len(lengths) - 2) * dim + dim // lengths[-1]
    return outputs * (dim * kernel_size + 1)
