"""FrameEncoder: an embedding per frame, from a transformer over time."""

from typing import Any

import torch
from torch import Tensor, nn


class FrameEncoder(nn.Module):
    """Embed each frame of a sequence in the context of its sequence.

    Frames are projected to `width`, a sinusoidal code of their *time* is added, a pre-norm transformer attends over
    the frames of the same sequence, and a linear head gives the embedding.

    Args:
        input_dim: number of features of a frame; trailing dimensions (joints x 3, say) are flattened. With a
            `backbone`, the number of features that it returns.
        embed_dim: E, size of the embedding.
        width: of the transformer, even.
        layers, heads: of the transformer; its feed-forward layers are 4 x width.
        dropout: of the transformer.
        period: longest wavelength of the time code, in the unit of the times; the shortest is a thousandth of it.
        backbone: for frames that are images (B, T, C, H, W): a module that maps (K, C, H, W) to (K, input_dim), or
            "small", a four-layer convolutional net for three channels. Default None: frames are features.

    Shape: frames (B, T, ...), times (B, T) in any unit (default: the frame index), lengths (B,) -> (B, T, embed_dim), 0
    at padding. Times count from each sequence's first frame.

    Raises:
        ValueError: frames that do not have `input_dim` features, times or lengths of the wrong shape.
    """

    def __init__(
        self,
        input_dim: int,
        *,
        embed_dim: int = 128,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        period: float = 100.0,
        backbone: nn.Module | str | None = None,
    ) -> None:
        super().__init__()
        if width % 2 or width % heads:
            raise ValueError(f"width must be even and a multiple of heads, got width {width} and {heads} heads")
        self.config: dict[str, Any] = {
            "input_dim": input_dim, "embed_dim": embed_dim, "width": width, "layers": layers, "heads": heads,
            "dropout": dropout, "period": period, "backbone": backbone if isinstance(backbone, str) else None,
        }  # fmt: skip
        self.backbone = _backbone(backbone, input_dim)
        self.input = nn.Linear(input_dim, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, embed_dim)
        self.register_buffer(
            "frequencies", 2 * torch.pi * torch.logspace(0, 3, width // 2) / period, persistent=False
        )
        self.frequencies: Tensor

    def forward(
        self, frames: Tensor, *, times: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Embeddings (B, T, embed_dim) of frames (B, T, ...)."""
        b, t = frames.shape[:2]
        index = torch.arange(t, device=frames.device)
        times = index.expand(b, t).float() if times is None else times
        lengths = torch.full((b,), t, device=frames.device) if lengths is None else lengths
        if times.shape != (b, t) or lengths.shape != (b,):
            raise ValueError(
                f"times must be {(b, t)} and lengths ({b},) for frames {tuple(frames.shape)}, "
                f"got {tuple(times.shape)} and {tuple(lengths.shape)}"
            )
        valid = index < lengths[:, None]
        x = self._features(frames, valid)
        x = self.input(x) + self._time_code(torch.where(valid, times - times[:, :1], 0), x.dtype)
        keep = valid | (index == 0)  # a sequence without a frame attends to one place, lest softmax see none
        x = self.head(self.transformer(x, src_key_padding_mask=~keep))
        return torch.where(valid[:, :, None], x, 0)

    def _features(self, frames: Tensor, valid: Tensor) -> Tensor:
        b, t = frames.shape[:2]
        frames = torch.where(valid.reshape(b, t, *(1,) * (frames.dim() - 2)), frames, 0)
        if self.backbone is None:
            x = frames.reshape(b, t, -1)
        else:
            if frames.dim() != 5:
                raise ValueError(f"with a backbone frames must be (B, T, C, H, W), got {tuple(frames.shape)}")
            x = self.backbone(frames.flatten(0, 1)).reshape(b, t, -1)
        if x.shape[2] != self.input.in_features:
            raise ValueError(
                f"frames must have {self.input.in_features} features (input_dim), got {x.shape[2]} from "
                f"shape {tuple(frames.shape)}"
            )
        return x

    def _time_code(self, times: Tensor, dtype: torch.dtype) -> Tensor:
        angle = times.float()[:, :, None] * self.frequencies
        return torch.cat((angle.sin(), angle.cos()), dim=2).to(dtype)


def _backbone(backbone: nn.Module | str | None, features: int) -> nn.Module | None:
    if backbone is None or isinstance(backbone, nn.Module):
        return backbone
    if backbone != "small":
        raise ValueError(f"backbone must be a module, 'small' or None, got {backbone!r}")
    channels = (3, 16, 32, 64, features)
    stages: list[nn.Module] = []
    for c_in, c_out in zip(channels[:-1], channels[1:], strict=True):
        stages += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, c_out), nn.GELU()]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
