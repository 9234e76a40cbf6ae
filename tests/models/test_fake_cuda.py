"""The CUDA path without a GPU: nothing in a frame or a training step makes the host wait for the device."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.edges import EdgeSettings
from models.hints import draw_variations, vary_hints
from models.losses.adversarial import ADVERSARIAL
from models.losses.edge import EdgeLoss, FusedEdgeLoss
from models.losses.matching import FeatureMatching
from models.losses.perceptual import Perceptual
from models.losses.pixel import Chroma, Pixel, Tone
from models.nets.discriminator import DiscriminatorSettings, build_discriminator
from models.nets.dned import fuse_sides
from models.nets.segmenter import SEGMENTERS, PSPNetSegmenter, Segmenter
from models.nets.sflow import SFlowNetwork
from models.style import draw_weights
from tests.fake_cuda import fake_cuda, host_copies, on_cuda

CLASSES = 5
EVERYTHING = {"hint_classes": (0, 2), "keep_hues": True, "half_chroma": True, "style_input": True}
EDGES = {
    "plain": EdgeSettings(),
    "kernel 3": EdgeSettings(kernel=3),
    "blur": EdgeSettings(2.0, 1.5),
    "coarse": EdgeSettings(2.0, 1.0, coarse_blur=2.0),
    "contrast": EdgeSettings(0.11, 1.5, contrast_window=31),
    "signed": EdgeSettings(0.11, 1.5, contrast_window=31, signed=True),
    "all of them": EdgeSettings(0.11, 1.5, 3, 31, signed=True, coarse_blur=3.0),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "hints": {"hint_classes": (0, 2)},
    "keep_hues": {"hint_classes": (0, 2), "keep_hues": True},
    "half_chroma": {"half_chroma": True},
    "style_input": {"style_input": True},
    "no DNED": {"uses_dned": False},
    "all of them": EVERYTHING,
}


@pytest.fixture(autouse=True)
def cuda() -> Iterator[None]:
    with fake_cuda():
        yield


def network(tier: str = "lite", edge: EdgeSettings | None = None, **options: Any) -> SFlowNetwork:
    return SFlowNetwork(tier, CLASSES, edge or EdgeSettings(), **options)


def translate(made: SFlowNetwork, dtype: torch.dtype, height: int, width: int) -> tuple[list[str], list[Tensor]]:
    """Host copies while one batch of two is translated, and what came out."""
    limits = made.chroma_limits
    on_cuda(made.eval(), dtype)
    if limits is not None:
        made.chroma_limits = limits.new_empty(limits.shape, dtype=torch.float32, device="cuda")
    rgb = torch.zeros(2, height, width, 3, dtype=torch.uint8, device="cuda")
    weights = torch.zeros(2, 6, device="cuda")
    out: list[Tensor] = []
    found = host_copies(lambda: out.extend(made.translate(rgb, rgb[..., 0].contiguous(), weights)))
    return found, out


def assert_pictures(out: list[Tensor], height: int, width: int) -> None:
    assert [tuple(t.shape) for t in out] == [(2, height, width, 3), (2, height, width)]
    assert all(t.device.type == "cuda" and t.dtype == torch.uint8 for t in out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("tier", ["lite", "base", "full"])
def test_a_frame_never_waits_for_the_host(tier: str, dtype: torch.dtype) -> None:
    found, out = translate(network(tier, EDGES["all of them"], **EVERYTHING), dtype, 50, 70)
    assert found == []
    assert_pictures(out, 50, 70)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_every_edge_operator_stays_on_the_device(edge: EdgeSettings, dtype: torch.dtype) -> None:
    found, out = translate(network(edge=edge), dtype, 64, 96)
    assert found == []
    assert_pictures(out, 64, 96)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 31)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_extension_and_size_stays_on_the_device(options: dict[str, Any], height: int, width: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        found, out = translate(network(**options), dtype, height, width)
        assert found == []
        assert_pictures(out, height, width)


def test_one_faulty_line_inside_translate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    shown = made.edges_shown
    monkeypatch.setattr(made, "edges_shown", lambda *a: shown(*a) * torch.tensor(1.0, device="cuda"))
    found, _ = translate(made, torch.float32, 64, 96)
    assert any("copies from cpu to cuda:0" in sentence for sentence in found)


class Faulty(nn.Module):
    """A network with one line of the kind that is looked for."""

    def __init__(self, line: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self._line = line

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        self._line(x)
        return x


FAULTS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "item": (lambda x: x.sum().item(), "waits for the GPU"),
    "bool": (lambda x: bool(x.isfinite().all()), "waits for the GPU"),
    "tensor": (lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=x.device), "copies from cpu to cuda:0"),
    "new_tensor": (lambda x: x @ x.new_tensor([1.0, 2.0, 3.0]), "copies from cpu to cuda:0"),
    "host constant": (lambda x: torch.ones(3).to(x), "copies from cpu to cuda:0"),
    "cpu": (lambda x: x.cpu(), "copies from cuda:0 to cpu"),
    "nonzero": (lambda x: x.nonzero(), "nonzero waits for the GPU"),
    "mask": (lambda x: x[x > 0], "aten.index waits for the GPU"),
    "list index": (lambda x: x[[0, 1]], "copies from cpu to cuda:0"),
    "copy_": (lambda x: x.copy_(torch.ones(3)), "copies from cpu to cuda:0"),
    "pinned": (lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True), "copies from cpu to cuda:0"),
}


@pytest.mark.parametrize("inference", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize(("line", "what"), FAULTS.values(), ids=FAULTS)
def test_the_watcher_names_the_faulty_line(line: Callable[[Tensor], object], what: str, inference: bool) -> None:
    made = on_cuda(Faulty(line)).requires_grad_(False)
    with torch.inference_mode(inference):
        found = host_copies(lambda: made(torch.zeros(2, 3, device="cuda")))
    assert any(what in sentence for sentence in found), found
    assert all(sentence.startswith("tests/models/test_fake_cuda.py:") for sentence in found)


def test_the_watcher_lets_pinned_copies_pass_where_no_graph_is_captured() -> None:
    assert host_copies(lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True), pinned=True) == []
    assert host_copies(lambda: torch.ones(3).to("cuda", non_blocking=True), pinned=True)
    assert host_copies(lambda: torch.ones(3).pin_memory().to("cuda"), pinned=True)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Pictures in -1..1, labels, and edges in 0..1 of a training step."""
    x = torch.zeros(2, 3, 64, 64, device="cuda").contiguous(memory_format=torch.channels_last)
    return x, torch.zeros(2, 64, 64, dtype=torch.uint8, device="cuda"), torch.zeros(2, 2, 64, 64, device="cuda")


def autocast() -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16)


def test_the_networks_of_a_training_step_never_wait_for_the_host() -> None:
    made = on_cuda(network(edge=EDGES["signed"], **EVERYTHING).train())
    x, labels, edges = batch()
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        weights = draw_weights(made.dned.ensemble_logits, 2, 1.0, 0.5, generator)
        hints = made.hints_of(x, labels)
        assert hints is not None
        varied = vary_hints(hints, draw_variations(2, 0.1, 0.1, generator))
        with autocast():
            out = made(labels, edges, weights, varied)
            fused = fuse_sides(made.dned.sides(edges), made.dned.learned_weights().expand(2, -1))
        assert out.image.device.type == fused.device.type == "cuda"

    assert host_copies(step, pinned=True) == []


def test_activations_stay_in_bf16_through_the_decoder() -> None:
    """CUDA's autocast enlarges in float32, CPU's does not; what follows would take twice the memory."""
    made = on_cuda(network(**EVERYTHING).train())
    seen: dict[str, torch.dtype] = {}
    for name in ("up8", "up4", "up2", "out2", "head"):
        layer = getattr(made.generator, name)
        layer.register_forward_hook(lambda _m, given, out, name=name: seen.update({name: out.dtype}))
        layer.register_forward_pre_hook(lambda _m, given, name=name: seen.update({f"into {name}": given[0].dtype}))
    _, labels, edges = batch()
    with autocast():
        made(labels, edges[:, :1], torch.zeros(2, 6, device="cuda"), torch.zeros(2, 4, 8, 8, device="cuda"))
        sides = made.dned.sides(edges[:, :1])
        assert fuse_sides(sides, torch.zeros(2, 6, device="cuda")).dtype == sides[0].dtype == torch.bfloat16
    assert set(seen.values()) == {torch.bfloat16}, seen


@pytest.mark.parametrize(
    "settings",
    [
        DiscriminatorSettings(width=8, sees_edges=True),
        DiscriminatorSettings("patch70", 8, 3, "instance", spectral_norm=True, sees_instance_edges=True),
    ],
    ids=["space-to-depth", "patch70"],
)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_adversarial_terms_never_wait_for_the_host(settings: DiscriminatorSettings, name: str) -> None:
    made = on_cuda(build_discriminator(settings, CLASSES, 2).train())
    x, labels, edges = batch()
    seen = edges[:, : made.planes]

    def terms() -> None:
        with autocast():
            real, fake = made(labels, x, seen), made(labels, x, seen)
        for r, f in zip(real, fake, strict=True):
            ADVERSARIAL[name]().discriminator(r.patches.float(), f.patches.float())
            ADVERSARIAL[name]().generator(f.patches.float())
            FeatureMatching()(r.features, f.features)

    assert host_copies(terms, pinned=True) == []


def test_the_losses_of_edges_and_pictures_never_wait_for_the_host() -> None:
    x, _, edges = batch()
    sides = [torch.zeros(2, 2, 64 >> i, 64 >> i, device="cuda", dtype=torch.bfloat16) for i in range(6)]
    losses = [Pixel(), Chroma(), Tone()]
    terms: Callable[[], object] = lambda: (  # noqa: E731
        EdgeLoss()(sides, edges), FusedEdgeLoss()(sides[0], edges), *(loss(x, x) for loss in losses)
    )  # fmt: skip
    assert host_copies(terms, pinned=True) == []


@pytest.mark.parametrize("arch", ["unet-segmenter", "pyramid-segmenter", "resnet18", "mobilenet_v3_small"])
def test_segmenters_train_and_predict_without_waiting(arch: str) -> None:
    made: Segmenter = SEGMENTERS[arch](CLASSES, 8) if arch in SEGMENTERS else PSPNetSegmenter(CLASSES, 8, arch)
    on_cuda(made)
    x, labels, _ = batch()

    def step() -> None:
        with autocast():
            logits = made.train()(x)
        nn.functional.cross_entropy(logits.float(), labels.long(), torch.ones(CLASSES, device="cuda"))
        made.eval().predict(torch.zeros(2, 64, 64, 3, dtype=torch.uint8, device="cuda"))

    assert host_copies(step, pinned=True) == []


@pytest.mark.parametrize("blur", [False, True])
def test_the_perceptual_loss_compares_on_the_device(blur: bool) -> None:
    loss = on_cuda(Perceptual(SEGMENTERS["unet-segmenter"](CLASSES, 8), blur=blur))
    x, _, _ = batch()
    with autocast():
        assert host_copies(lambda: loss(x, x), pinned=True) == []
