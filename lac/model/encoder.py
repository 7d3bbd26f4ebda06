"""FrameEncoder: an embedding per frame, from a transformer over time."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lac import checks
from lac.checks import Length
from lac.model.backbone import Backbone
from lac_kernels.problem import valid_frames


class FrameEncoder(nn.Module):
    """Embed each frame of a sequence in the context of its sequence.

    Frames are projected to `width`; a pre-norm transformer attends over the frames of the same sequence; a linear head
    gives the embedding. Attention knows *real time*, and only as a difference: queries and keys are rotated by angles
    2 pi t / w for wavelengths w between `shortest_wavelength` and `longest_wavelength` (rotary position embedding;
    J. Su et al., "RoFormer", 2021), so it depends on t_i - t_j alone. A frame cannot be told by how late it comes in
    its clip, the sampling rate may change within a sequence, and shifting all times changes nothing.

    Args:
        input_dim: number of features of a frame; trailing dimensions (joints x 3, say) are flattened. With a
            `backbone`, the number of features that it returns; `None` where it is given by name.
        embed_dim: E, size of the embedding. Default 128.
        width: of the transformer, a multiple of 2 x heads. Default 128.
        layers: how many, >= 0; their feed-forward nets are 4 x width. Default 2.
        heads: of the attention. Default 4.
        dropout: of what each part of a layer adds to its input, from 0 to less than 1. Default 0.
        shortest_wavelength: of w above, > 0, in the unit of the times. Default 0.5, for seconds of human motion.
        longest_wavelength: likewise, not below the shortest. Default 50.
        backbone: for frames that are images (B, T, C, H, W): a module that maps (K, C, H, W) to (K, input_dim), or
            a name, such as "small" or "efficientnet_lite0" (see `lac.model.backbone`), for RGB from -1 to 1. It is
            trained with the rest. Default None: frames are features.

    Shape: frames (B, T, ...) of the encoder's dtype (inside autocast of any floating dtype; with a `backbone` of yours
    whatever it takes); times (B, T), any real dtype, finite and not decreasing, default the frame number; lengths (B,)
    integers (a tensor, a list, or one int for all), default T -> (B, T, embed_dim), 0 at padding. Padded frames and
    times may hold anything. Values on a GPU are not checked; lengths are clamped to 0..T there.

    Raises:
        ValueError: a setting out of its range, no backbone of that name or with another number of features; frames that
            do not have `input_dim` features, times or lengths of the wrong shape or out of range, times that decrease.
        TypeError: settings or tensors of the wrong type.
        ImportError, OSError: a backbone by name whose package or weights are not there.

    Examples:
        >>> encoder = FrameEncoder(51)  # 17 joints x 3
        >>> encoder(torch.randn(4, 40, 17, 3)).shape
        torch.Size([4, 40, 128])
    """

    def __init__(
        self,
        input_dim: int | None,
        *,
        embed_dim: int = 128,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        shortest_wavelength: float = 0.5,
        longest_wavelength: float = 50.0,
        backbone: nn.Module | str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("embed_dim", embed_dim), ("width", width), ("heads", heads)):
            checks.count(name, value)
        checks.count("layers", layers, least=0)
        dropout = checks.finite("dropout", dropout)
        shortest_wavelength = checks.finite("shortest_wavelength", shortest_wavelength)
        longest_wavelength = checks.finite("longest_wavelength", longest_wavelength)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        if width % (2 * heads):
            raise ValueError(f"width must be a multiple of 2 x heads, got width {width} and {heads} heads")
        if not 0 < shortest_wavelength <= longest_wavelength:
            raise ValueError(
                "wavelengths must satisfy 0 < shortest_wavelength <= longest_wavelength, got "
                f"{shortest_wavelength} and {longest_wavelength}"
            )
        if not isinstance(backbone, (str, nn.Module, type(None))):
            raise TypeError(f"backbone must be a name, a torch.nn.Module or None, got {type(backbone).__name__}")
        self.backbone = Backbone(backbone) if isinstance(backbone, str) else backbone
        if isinstance(self.backbone, Backbone):
            input_dim = self.backbone.features if input_dim is None else input_dim
            if input_dim != self.backbone.features:
                raise ValueError(
                    f"backbone {self.backbone.name!r} returns {self.backbone.features} features a frame, got input_dim "
                    f"{input_dim}; give None"
                )
        if input_dim is None:
            raise ValueError("input_dim must be the number of features of a frame; None is for a backbone by name")
        checks.count("input_dim", input_dim)
        self.config: dict[str, Any] = {
            "input_dim": input_dim, "embed_dim": embed_dim, "width": width, "layers": layers, "heads": heads,
            "dropout": dropout, "shortest_wavelength": shortest_wavelength,
            "longest_wavelength": longest_wavelength, "backbone": backbone if isinstance(backbone, str) else None,
        }  # fmt: skip
        self.input = nn.Linear(input_dim, width)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, embed_dim)
        wavelengths = torch.logspace(
            math.log10(shortest_wavelength), math.log10(longest_wavelength), width // heads // 2
        )
        self.register_buffer("frequencies", 2 * math.pi / wavelengths, persistent=False)
        self.frequencies: Tensor

    def forward(self, frames: Tensor, *, times: Tensor | None = None, lengths: Length = None) -> Tensor:
        """Embed frames: (B, T, ...) -> (B, T, embed_dim), 0 at padding.

        Args:
            frames: (B, T, ...) of the encoder's dtype, with `input_dim` features a frame.
            times: (B, T) of any real dtype, finite, not decreasing; default the frame number.
            lengths: (B,) integers from 0 to T, or one for all; default T.

        Raises:
            ValueError, TypeError: as in the class.
        """
        self._check(frames)
        b, t = frames.shape[:2]
        lengths = checks.lengths("lengths", lengths, b, t, frames.device)
        index = torch.arange(t, device=frames.device)
        valid = valid_frames(lengths, t)
        if times is None:
            times = index.expand(b, t)
        times = checks.times("times", times, (b, t), "the frames", frames.device)
        checks.in_order("times", times, lengths)
        wide = torch.promote_types(self.frequencies.dtype, torch.float32)
        since = torch.where(valid, times - times[:, :1], 0).to(wide)  # differences first: times may be large
        angles = since[:, None, :, None] * self.frequencies
        rotation = (angles.cos(), angles.sin())
        keys = valid | (index == 0)  # a sequence without a frame attends to one place, lest softmax see none
        x = self.input(self._features(frames, valid))
        for layer in self.layers:
            x = layer(x, rotation, keys[:, None, None, :])
        return torch.where(valid[:, :, None], self.head(self.norm(x)), 0)

    def _check(self, frames: Tensor) -> None:
        if not isinstance(frames, Tensor):
            raise TypeError(f"frames must be a torch.Tensor, got {type(frames).__name__}")
        if frames.dim() < 3:
            raise ValueError(
                f"frames must be (batch, frames, ...), got {tuple(frames.shape)}; for one sequence pass frames[None]"
            )
        weights = self.input.weight
        checks.same_device("frames", frames, "the encoder", weights.device)
        if (
            self.backbone is None
            and frames.dtype != weights.dtype
            and not torch.is_autocast_enabled(weights.device.type)
        ):
            raise TypeError(
                f"frames are {frames.dtype} but the encoder is {weights.dtype}; convert with frames.to({weights.dtype})"
            )

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


class _Layer(nn.Module):
    """Pre-norm self-attention with rotated queries and keys, then a feed-forward net."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], keys: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(_rotate(q, rotation), _rotate(k, rotation), v, attn_mask=keys)
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(b, t, width)))
        x = x + self.drop(self.feed_forward(self.norm2(x)))
        return x


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    a, b = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)
