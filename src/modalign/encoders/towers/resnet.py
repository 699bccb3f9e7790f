"""ResNet image towers of CLIP: RN50, RN101, RN50x4, RN50x16 and RN50x64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESNET = "clip_resnet"
"""``model_type`` of a CLIP with such a tower."""

_NORM = ("weight", "bias", "running_mean", "running_var")
_EPS = 1e-5  # of the batch norms
_STRIDE = 32  # pixels of a side that become one position of the last map
_EXPANSION = 4


class ResNet(nn.Module):
    r"""A ResNet-D with attention pooling, for inference: images (B, 3, H, H) → (B, d).

    There are three differences from a standard ResNet. The stem has three 3×3 convolutions and an average pool. In
    blocks with stride 2, the convolutions keep stride 1, and an average pool after the 3×3 convolution and before that
    of the shortcut halves the map. The last layer is :class:`AttentionPool` instead of a mean.

    Every batch norm (in evaluation mode) is folded into the preceding convolution W:

    .. math:: \gamma\,\frac{W x - \mu}{s} + \beta = W' x + b',\qquad
        W' = \frac{\gamma}{s}\,W,\quad b' = \beta - \frac{\gamma\,\mu}{s},\quad s = \sqrt{\sigma^2 + \epsilon}

    Parameters
    ----------
    layers : sequence of int
        Number of blocks of the four stages.
    width : int
        Channels of the stem, w; the last feature map has 32 w.
    heads : int
        Heads of the attention pooling.
    image_size : int
        H, a multiple of 32.
    dim : int
        d.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, 2021, section 2.4.
    He et al., Bag of tricks for image classification with convolutional neural networks, 2019, section 4.
    """

    def __init__(self, layers: Sequence[int], width: int, heads: int, image_size: int, dim: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1)
        inputs = width
        for stage, blocks in enumerate(layers):
            channels, stride = width * 2**stage, 1 if stage == 0 else 2
            made = [Bottleneck(inputs, channels, stride)]
            inputs = channels * _EXPANSION
            made += [Bottleneck(inputs, channels, 1) for _ in range(1, blocks)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.stages = len(layers)
        self.image_size = image_size
        self.attnpool = AttentionPool(image_size // _STRIDE, inputs, heads, dim)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return the last feature map, (B, 32 w, S, S) with S = H/32."""
        x = F.relu(self.conv1(pixel_values))
        x = F.relu(self.conv2(x))
        x = F.avg_pool2d(F.relu(self.conv3(x)), 2)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x

    def forward(self, pixel_values: Tensor, *, tokens: bool = False) -> Tensor:
        """Return (B, d), or with ``tokens`` (B, 1 + S², d) with the image vector first."""
        pool = self.attnpool
        pooled = pool.c_proj(pool(self.features(pixel_values), tokens=tokens))
        return pooled if tokens else pooled[:, 0]


class Bottleneck(nn.Module):
    """1×1 to c channels, 3×3, 1×1 to 4 c channels, with a shortcut; c = ``channels``."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = channels * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, outputs, 1)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        unlike = stride > 1 or inputs != outputs
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1)) if unlike else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, H) → (B, 4 c, H/stride, H/stride)."""
        h = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(self.pool(h)) + self.downsample(self.pool(x)))


class AttentionPool(nn.Module):
    """Multi-head attention pooling: the mean of a feature map attends to its positions.

    Keys and values are the mean and the S² positions, with position embeddings; the query is the mean.
    """

    def __init__(self, side: int, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(side**2 + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, dim)
        self.heads = heads

    def forward(self, x: Tensor, *, tokens: bool = False) -> Tensor:
        """(B, width, S, S) → (B, 1, width), or with ``tokens`` (B, 1 + S², width) with every position as query."""
        x = x.flatten(2).mT
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        asking = self.q_proj(x if tokens else x[:, :1])
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (asking, self.k_proj(x), self.v_proj(x))
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def stored_shapes(network: ResNet) -> dict[str, torch.Size]:
    """Return names and shapes of the tensors in a checkpoint, with separate batch norms."""
    found = {name: p.shape for name, p in network.named_parameters() if name.startswith("attnpool.")}
    for name, convolution in _convolutions(network).items():
        found[f"{name}.weight"] = convolution.weight.shape
        found |= {f"{_norm_behind(name)}.{part}": convolution.weight.shape[:1] for part in _NORM}
    return found


def fold(tensors: Mapping[str, Tensor], network: ResNet) -> dict[str, Tensor]:
    """Return the parameters of the network in float32 from the tensors of :func:`stored_shapes`."""
    found = {name: tensors[name].float() for name in stored_shapes(network) if name.startswith("attnpool.")}
    for name in _convolutions(network):
        gamma, beta, mean, variance = (tensors[f"{_norm_behind(name)}.{part}"].double() for part in _NORM)
        factor = gamma / (variance + _EPS).sqrt()
        found[f"{name}.weight"] = (factor[:, None, None, None] * tensors[f"{name}.weight"].double()).float()
        found[f"{name}.bias"] = (beta - factor * mean).float()
    return found


def _convolutions(network: ResNet) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def _norm_behind(convolution: str) -> str:
    """Return the name of the batch norm after a convolution in checkpoints."""
    before, _, last = convolution.rpartition(".")
    return f"{before}.1" if last == "0" else convolution.removesuffix(last) + last.replace("conv", "bn")
