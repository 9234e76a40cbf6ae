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
    """What the network made of a batch.

    Attributes:
        image: RGB ``(N, 3, H, W)`` in -1..1.
        edges: The edge map the generator saw, ``(N, P, H, W)`` in 0..1.
    """

    image: Tensor
    edges: Tensor


class SFlowNetwork(nn.Module):
    """CG2real: DNED on the edge map of the render, generator on labels and DNED's ensemble.

    Args:
        tier: ``lite``, ``base`` or ``full``.
        classes: Number of label classes.
        edge: Settings of the edge operator.
        style_spread: Spread of the ensemble weights drawn in training.
        style_input: Tell the generator the ensemble weights beside the map made with them (an extension; the paper's
            generator sees the map alone).
        style_reach: Share of the spread with which style seeds draw, by axis (``models.style.AXES``): less where a
            judge reads the pictures worse; empty for all of it.
        style_centre: Where style seeds are drawn around, in units of the spread, by axis; empty for the learned
            weights.
        hint_classes: Ids of the classes that give colour hints (:mod:`models.hints`); empty, the paper's, for none.
        uses_dned: Show the generator DNED's ensemble; otherwise E(x) itself, as in phase 1 (an ablation of the paper's
            network).
        half_chroma: Make pictures with colour at half the resolution of light (an extension).
        keep_hues: Add the hints' chroma, limited to the photographs', to the picture (an extension).

    Raises:
        ValueError: Unknown tier, a reach for another number of axes, or hints of classes that there are not.
    """

    hinted: Tensor
    chroma_limits: Tensor | None
    """Largest chroma of each class in the photographs ``(classes,)``; 0 until training measured it."""

    def __init__(
        self,
        tier: str,
        classes: int,
        edge: EdgeSettings,
        style_spread: float = 1.0,
        style_input: bool = False,
        style_reach: Sequence[float] = (),
        style_centre: Sequence[float] = (),
        hint_classes: Sequence[int] = (),
        uses_dned: bool = True,
        half_chroma: bool = False,
        keep_hues: bool = False,
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
        """Spread of the ensemble weights drawn for style seeds other than 0, by axis."""
        self.seed_centre = [self.style_spread * float(place) for place in style_centre or [0.0] * len(AXES)]
        """What they are drawn around, as an offset from the learned ones."""
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
        """Type of the weights, and so of the arithmetic."""
        return self.generator.head.weight.dtype

    def style_weights(self, seed: int) -> Tensor:
        """Ensemble weights of a style seed, float32 ``(6,)`` on the CPU."""
        return ensemble_weights(self.dned.ensemble_logits, seed, self.seed_spread, self.seed_centre)

    def forward(
        self, labels: Tensor, edges: Tensor, weights: Tensor | None = None, hints: Tensor | None = None
    ) -> Rendering:
        """The generator sees DNED's ensemble, as in phases 2 and 3, or E(x) where DNED is not used.

        Args:
            labels: uint8 ``(N, H, W)``; H and W multiples of 32.
            edges: Edge planes ``(N, P, H, W)`` in 0..1.
            weights: Ensemble weights ``(N, 6)``; None for the learned ones.
            hints: Colour hints, see :meth:`hints_of`; None for none.
        """
        seen = self.edges_shown(edges, weights)
        return Rendering(self.generator(labels, seen, self.style_vector(weights), hints), seen)

    def edges_shown(self, edges: Tensor, weights: Tensor | None = None) -> Tensor:
        """What the generator is shown of E ``(N, P, H, W)``: DNED's ensemble in 0..1, or E where DNED is not used."""
        return torch.sigmoid(self.dned(edges, weights).fused) if self.uses_dned else edges

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.generator.head.weight.device

    def hints_of(self, rgb: Tensor, labels: Tensor) -> Tensor | None:
        """Colour hints ``(N, 4, H / 8, W / 8)`` of a picture; None where the network takes none.

        Args:
            rgb: ``(N, 3, H, W)`` in -1..1; H and W multiples of 8.
            labels: uint8 ``(N, H, W)``.
        """
        if not self.takes_hints:
            return None
        return colour_hints(rgb, labels, self.hinted, self.chroma_limits)

    def style_vector(self, weights: Tensor | None) -> Tensor | None:
        """What the generator is told of ensemble weights ``(N, 6)``, in units of the spread; None for the learned."""
        if weights is None or self.generator.style_projection is None:
            return None
        return style_offsets(weights, self.dned.ensemble_logits) / self.style_spread

    @torch.inference_mode()
    def translate(self, rgb: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The live path.

        Args:
            rgb: uint8 ``(N, H, W, 3)``, any H and W.
            labels: uint8 ``(N, H, W)``, every id below the number of classes.
            weights: Ensemble weights ``(N, 6)``; None for the learned ones.

        Returns:
            The photoreal picture, uint8 ``(N, H, W, 3)``, and the edge map the generator saw, uint8 ``(N, H, W)``.
        """
        return self.translate_edges(self.operator(rgb), labels, weights, rgb)

    @torch.inference_mode()
    def translate_edges(
        self, edges: Tensor, labels: Tensor, weights: Tensor | None = None, hints_from: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`translate`, with an edge map of one's own, ``(N, P, H, W)`` in 0..1.

        Args:
            edges: What DNED is shown.
            labels: As there.
            weights: As there.
            hints_from: The picture that gives the colour hints, where the network takes them; None for no hints.
        """
        h, w = labels.shape[1:]
        padded_labels, padded = pad_to_stride(labels, edges.to(self.dtype))
        hints = None if hints_from is None else self.hints_of_pixels(hints_from, padded_labels)
        out = self(padded_labels, padded, weights, hints)
        return to_pixels(out.image[:, :, :h, :w]), edges_to_pixels(out.edges[:, :, :h, :w])

    def hints_of_pixels(self, rgb: Tensor, padded_labels: Tensor) -> Tensor | None:
        """As :meth:`hints_of`, of uint8 ``(N, h, w, 3)`` under labels ``(N, H, W)`` that were padded to the stride.

        In float32 whatever the network's type: they are means of many numbers.
        """
        if not self.takes_hints:
            return None
        picture = rgb.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        bottom, right = (padded_labels.shape[i] - picture.shape[i + 1] for i in (1, 2))
        if bottom or right:
            picture = F.pad(picture, (0, right, 0, bottom), mode="replicate")
        return self.hints_of(picture, padded_labels)


def to_pixels(image: Tensor) -> Tensor:
    """RGB ``(N, 3, H, W)`` in -1..1 as uint8 ``(N, H, W, 3)``.

    In float32: bf16 has steps of one grey level above 128, and would brighten the picture by half of one.
    """
    return (image.float() * 127.5).add_(128.0).clamp_(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def edges_to_pixels(edges: Tensor) -> Tensor:
    """Edge planes ``(N, P, H, W)`` in 0..1 as one map uint8 ``(N, H, W)``, the strongest plane in each pixel."""
    return (edges.amax(1).float() * 255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def pad_to_stride(labels: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Extends labels (repeating the last row and column) and edges (with none) to multiples of the network's stride."""
    h, w = labels.shape[1:]
    bottom, right = -h % STRIDE, -w % STRIDE
    if not (bottom or right):
        return labels, edges
    rows = torch.arange(h + bottom, device=labels.device).clamp_(max=h - 1)
    columns = torch.arange(w + right, device=labels.device).clamp_(max=w - 1)
    return labels.index_select(1, rows).index_select(2, columns), F.pad(edges, (0, right, 0, bottom))
