"""The whole S-Flow network: edge operator, DNED and generator, pixels in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edges import EdgeSettings, LaplacianEdges
from models.hints import colour_hints
from models.nets.dned import DNED, SIDES, STRIDE
from models.nets.generator import TIERS, Generator
from models.style import AXES, check_axes, ensemble_weights, style_offsets


class Rendering(NamedTuple):
    """What the network made of a batch."""

    image: Tensor  # RGB (N, 3, H, W) in -1..1
    edges: Tensor  # the edge map that the generator saw, (N, P, H, W) in 0..1


class SFlowNetwork(nn.Module):
    """CG2real: DNED on the edge map of the render, the generator on labels and DNED's ensemble.

    The defaults are the paper's network. Raises ValueError for an unknown tier, a wrong number of axes, or hint classes
    that do not exist.
    """

    hinted: Tensor
    chroma_limits: Tensor | None  # largest chroma of each class in the photographs (classes,); 0 until measured

    def __init__(
        self,
        tier: str,
        classes: int,
        edge: EdgeSettings,
        style_spread: float = 1.0,  # of the ensemble's logits drawn in training
        style_input: bool = False,  # the generator also takes the ensemble weights
        style_reach: Sequence[float] = (),  # share of the spread that seeds draw with, by axis; empty: all of it
        style_centre: Sequence[float] = (),  # what seeds draw around, by axis in spreads; empty: the learned weights
        hint_classes: Sequence[int] = (),  # ids of the classes that give colour hints
        uses_dned: bool = True,  # the generator sees DNED's ensemble, otherwise E(x) as in phase 1
        half_chroma: bool = False,  # colour has half the resolution of light
        keep_hues: bool = False,  # the picture gets the hints' chroma, limited to the photographs'
    ) -> None:
        super().__init__()
        if tier not in TIERS:
            raise ValueError(f"generator tier is {tier!r}, known are {', '.join(TIERS)}")
        check_axes(style_reach=style_reach, style_centre=style_centre)
        if any(not 0 <= i < classes for i in hint_classes):
            raise ValueError(f"hint_classes are {list(hint_classes)}, but there are {classes} classes")
        sizes = TIERS[tier]
        self.args: dict[str, Any] = {
            "tier": tier,
            "classes": classes,
            "style_spread": style_spread,
            "style_input": style_input,
            "style_reach": list(style_reach),
            "style_centre": list(style_centre),
            "hint_classes": list(hint_classes),
            "uses_dned": uses_dned,
            "half_chroma": half_chroma,
            "keep_hues": keep_hues,
        }
        self.uses_dned = uses_dned
        self.style_spread = float(style_spread)
        self.seed_spread = [self.style_spread * float(share) for share in style_reach or [1.0] * len(AXES)]
        self.seed_centre = [self.style_spread * float(place) for place in style_centre or [0.0] * len(AXES)]
        self.operator = LaplacianEdges(edge)
        self.dned = DNED(edge.planes, sizes.edge_widths, sizes.edge_depth)
        self.generator = Generator(
            classes,
            edge.planes,
            sizes,
            SIDES if style_input else 0,
            hints=len(hint_classes) > 0,
            half_chroma=half_chroma,
            keep_hues=keep_hues,
        )
        hinted = torch.zeros(classes, dtype=torch.bool)
        hinted[list(hint_classes)] = True
        self.register_buffer("hinted", hinted, persistent=False)
        self.register_buffer("chroma_limits", torch.zeros(classes) if keep_hues else None)

    @property
    def takes_hints(self) -> bool:
        """Whether the generator takes colour hints."""
        return self.generator.hint_projection is not None

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and activations."""
        return self.generator.head.weight.dtype

    def style_weights(self, seed: int) -> Tensor:
        """Ensemble weights of a style seed, float32 ``(6,)`` on the CPU."""
        return ensemble_weights(self.dned.ensemble_logits, seed, self.seed_spread, self.seed_centre)

    def forward(
        self, labels: Tensor, edges: Tensor, weights: Tensor | None = None, hints: Tensor | None = None
    ) -> Rendering:
        """G(s, e) of labels uint8 ``(N, H, W)`` and edge planes ``(N, P, H, W)`` in 0..1, H and W multiples of 32.

        Ensemble weights are ``(N, 6)``, None for the learned ones; hints are those of :meth:`hints_of`.
        """
        seen = self.edges_shown(edges, weights)
        return Rendering(self.generator(labels, seen, self.style_vector(weights), hints), seen)

    def edges_shown(self, edges: Tensor, weights: Tensor | None = None) -> Tensor:
        """What the generator sees of E ``(N, P, H, W)``: DNED's ensemble in 0..1, or E itself."""
        return torch.sigmoid(self.dned(edges, weights).fused) if self.uses_dned else edges

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.generator.head.weight.device

    def hints_of(self, rgb: Tensor, labels: Tensor) -> Tensor | None:
        """Hints ``(N, 4, H / 8, W / 8)``, if the network takes any, of RGB ``(N, 3, H, W)`` in -1..1 and labels."""
        if not self.takes_hints:
            return None
        return colour_hints(rgb, labels, self.hinted, self.chroma_limits)

    def style_vector(self, weights: Tensor | None) -> Tensor | None:
        """The generator's style input ``(N, 6)``, in units of the spread; None, which means zeros, for none."""
        if weights is None or self.generator.style_projection is None:
            return None
        return style_offsets(weights, self.dned.ensemble_logits) / self.style_spread

    @torch.inference_mode()
    def translate(self, rgb: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The live path: uint8 RGB ``(N, H, W, 3)`` and labels ``(N, H, W)``, any H and W, every id a class.

        Returns the photoreal picture, uint8 ``(N, H, W, 3)``, and the edge map the generator saw, uint8 ``(N, H, W)``.
        """
        return self.translate_edges(self.operator(rgb), labels, weights, rgb)

    @torch.inference_mode()
    def translate_edges(
        self, edges: Tensor, labels: Tensor, weights: Tensor | None = None, hints_from: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`translate` with the caller's edge map ``(N, P, H, W)`` in 0..1; no picture, no colour hints."""
        h, w = labels.shape[1:]
        padded_labels, padded = pad_to_stride(labels, edges.to(self.dtype))
        hints = None if hints_from is None else self.hints_of_pixels(hints_from, padded_labels)
        out = self(padded_labels, padded, weights, hints)
        return to_pixels(out.image[:, :, :h, :w]), edges_to_pixels(out.edges[:, :, :h, :w])

    def hints_of_pixels(self, rgb: Tensor, padded_labels: Tensor) -> Tensor | None:
        """:meth:`hints_of` uint8 ``(N, h, w, 3)`` under padded labels ``(N, H, W)``."""
        if not self.takes_hints:
            return None
        picture = rgb.permute(0, 3, 1, 2).float().div(127.5).sub(1)  # means of many numbers need float32
        bottom, right = (padded_labels.shape[i] - picture.shape[i + 1] for i in (1, 2))
        if bottom or right:
            picture = F.pad(picture, (0, right, 0, bottom), mode="replicate")
        return self.hints_of(picture, padded_labels)


def to_pixels(image: Tensor) -> Tensor:
    """RGB ``(N, 3, H, W)`` in -1..1 as uint8 ``(N, H, W, 3)``."""
    # In bf16, whose steps above 128 are a grey level, the picture would be half a level brighter.
    return (image.float() * 127.5).add_(128.0).clamp_(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def edges_to_pixels(edges: Tensor) -> Tensor:
    """Edge planes ``(N, P, H, W)`` in 0..1 as uint8 ``(N, H, W)``; the strongest plane counts."""
    return (edges.amax(1).float() * 255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def pad_to_stride(labels: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Pads labels (repeating the last row and column) and edges (with zeros) to multiples of 32."""
    h, w = labels.shape[1:]
    bottom, right = -h % STRIDE, -w % STRIDE
    if not (bottom or right):
        return labels, edges
    rows = torch.arange(h + bottom, device=labels.device).clamp_(max=h - 1)
    columns = torch.arange(w + right, device=labels.device).clamp_(max=w - 1)
    return labels.index_select(1, rows).index_select(2, columns), F.pad(edges, (0, right, 0, bottom))
