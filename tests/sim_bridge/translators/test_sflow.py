"""Bundles in the network stage: sizes, styles, arithmetic, licences, refusals; CUDA where there is CUDA."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from models.bundles.files import Card, save_bundle  # noqa: E402
from models.edges import EdgeSettings  # noqa: E402
from models.nets.segmenter import SEGMENTERS  # noqa: E402
from models.nets.sflow import SFlowNetwork  # noqa: E402
from sim_bridge.errors import TranslatorError, UsageError  # noqa: E402
from sim_bridge.translators import Style, Translator  # noqa: E402
from sim_bridge.translators import bundles as bundles_module  # noqa: E402
from sim_bridge.translators import sflow as sflow_module  # noqa: E402
from sim_bridge.translators.device import Target, choose_target  # noqa: E402
from sim_bridge.translators.load import load_translator  # noqa: E402
from sim_bridge.translators.sflow import SFlowTranslator  # noqa: E402
from tests.sim_bridge.translators.shots import translate  # noqa: E402

ByteArray = npt.NDArray[np.uint8]
CLASSES = ("sky", "road", "car", "unlabeled")
FP32 = Target(torch.device("cpu"), torch.float32)
BF16 = Target(torch.device("cpu"), torch.bfloat16)


pytestmark = pytest.mark.usefixtures("one_thread")


def make_network(seed: int = 0) -> SFlowNetwork:
    torch.manual_seed(seed)
    network = SFlowNetwork("lite", len(CLASSES), EdgeSettings()).eval()
    with torch.no_grad():
        network.dned.ensemble_logits.copy_(torch.tensor([0.5, 0.1, -0.2, 0.3, -0.4, 0.0]))
    return network


def make_hinted_network() -> SFlowNetwork:
    """With everything beyond the paper that a frame goes through."""
    torch.manual_seed(0)
    edge = EdgeSettings(0.11, 1.5, contrast_window=31, signed=True)
    network = SFlowNetwork(
        "lite", len(CLASSES), edge, style_input=True, hint_classes=(0, 2), half_chroma=True, keep_hues=True
    ).eval()
    assert network.chroma_limits is not None
    network.chroma_limits.fill_(0.29)
    return network


def make_translator(target: Target = FP32, network: SFlowNetwork | None = None) -> SFlowTranslator:
    network = make_network() if network is None else network
    return SFlowTranslator(network, name="test", model_id="0123456789ab", classes=CLASSES, target=target)


def street(batch: int = 1, height: int = 64, width: int = 96) -> tuple[ByteArray, ByteArray]:
    """Blocks of one class and one colour, so that there are edges and label boundaries."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, len(CLASSES), (batch, -(-height // 16), -(-width // 16)), np.uint8)
    labels = blocks.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    rgb = np.array([[120, 160, 220], [90, 90, 95], [200, 30, 30], [0, 0, 0]], np.uint8)[labels]
    return rgb, np.ascontiguousarray(labels)


def make_bundle(folder: Path, licence: str = "Apache-2.0") -> Path:
    network = make_network()
    card = Card(
        arch="sflow",
        args=network.args,
        classes=list(CLASSES),
        size=[96, 64],
        data="none",
        command="none",
        steps=0,
        licence_weights=licence,
        licence_data="none",
        edge=EdgeSettings().as_dict(),
    )
    save_bundle(folder, network, card)
    return folder


def test_is_the_network_bit_for_bit() -> None:
    rgb, labels = street(batch=2)
    answer = translate(make_translator(), rgb, labels, Style())
    image, edges = make_network().translate(torch.tensor(rgb), torch.tensor(labels))
    assert np.abs(answer.rgb.astype(int) - image.numpy()).max() <= 1  # channels_last may sum in another order
    assert answer.edges is not None and np.abs(answer.edges.astype(int) - edges.numpy()).max() <= 1
    assert answer.rgb.dtype == np.uint8 and answer.rgb.shape == rgb.shape and answer.edges.shape == labels.shape


@pytest.mark.parametrize(("width", "height"), [(96, 64), (97, 65), (33, 31), (16, 16), (130, 70)])
def test_any_size_is_answered_in_its_own_size(width: int, height: int) -> None:
    rgb, labels = street(height=height, width=width)
    translator = make_translator()
    translator.warm_up([(width, height)])
    answer = translate(translator, rgb, labels, Style())
    assert answer.rgb.shape == (1, height, width, 3)
    assert answer.edges is not None and answer.edges.shape == (1, height, width)


def test_a_batch_is_what_its_pictures_are_alone() -> None:
    translator = make_translator()
    translator.warm_up([(96, 64)], batch=3)
    rgb, labels = street(batch=3)
    together = translate(translator, rgb, labels, Style(seed=2))
    for i in range(3):
        alone = translate(translator, rgb[i : i + 1], labels[i : i + 1], Style(seed=2))
        assert np.abs(together.rgb[i].astype(int) - alone.rgb[0]).max() <= 1
        assert together.edges is not None and alone.edges is not None
        assert np.abs(together.edges[i].astype(int) - alone.edges[0]).max() <= 1
        assert together.used == alone.used


def test_a_received_message_is_translated_without_a_word_and_unchanged() -> None:
    """Messages are read-only views; torch warns when it wraps one, and warnings are errors here."""
    rgb, labels = street()
    expected = translate(make_translator(), rgb, labels, Style()).rgb
    rgb.flags.writeable = labels.flags.writeable = False
    before = rgb.copy()
    np.testing.assert_array_equal(translate(make_translator(), rgb, labels, Style()).rgb, expected)
    np.testing.assert_array_equal(rgb, before)


def test_results_are_not_overwritten_by_the_next_frame() -> None:
    """The sender hands pixels to ZeroMQ without a copy."""
    translator = make_translator()
    rgb, labels = street()
    first = translate(translator, rgb, labels, Style()).rgb
    kept = first.copy()
    second = translate(translator, rgb[:, ::-1].copy(), labels[:, ::-1].copy(), Style()).rgb
    assert not np.array_equal(second, kept)
    np.testing.assert_array_equal(first, kept)


def test_seeds_repeat_and_differ() -> None:
    translator = make_translator()
    rgb, labels = street()
    pictures = [translate(translator, rgb, labels, Style(seed=seed)) for seed in (0, 1, 2, 1, 0)]
    np.testing.assert_array_equal(pictures[1].rgb, pictures[3].rgb)
    np.testing.assert_array_equal(pictures[0].rgb, pictures[4].rgb)
    edges = [picture.edges for picture in pictures[:3]]
    assert edges[0] is not None and edges[1] is not None and edges[2] is not None
    assert not np.array_equal(edges[0], edges[1]) and not np.array_equal(edges[1], edges[2])


def test_seed_0_is_the_learned_ensemble() -> None:
    translator = make_translator()
    rgb, labels = street()
    learned = torch.softmax(make_network().dned.ensemble_logits.detach(), 0).tolist()
    by_hand = translate(translator, rgb, labels, Style(seed=9, ensemble=tuple(learned)))
    by_scaled = translate(translator, rgb, labels, Style(ensemble=tuple(7 * w for w in learned)))
    seed_0 = translate(translator, rgb, labels, Style())
    for other in (by_hand, by_scaled):
        assert np.abs(other.rgb.astype(int) - seed_0.rgb).max() <= 1


def test_a_style_is_the_same_in_both_arithmetics() -> None:
    """Weights are drawn from the unrounded logits; rounding them first would move every seed a little."""
    weights = [make_translator(target)._weights(Style(seed=4))[0] for target in (FP32, BF16)]
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    "ensemble",
    [(0.0,) * 6, (1.0, 1.0, 1.0, 1.0, 1.0, -1.0), (float("nan"),) * 6, (float("inf"), 1, 1, 1, 1, 1), (1.0, 2.0)],
)
def test_unusable_ensembles_are_refused(ensemble: tuple[float, ...]) -> None:
    rgb, labels = street()
    with pytest.raises(TranslatorError, match="6 numbers"):
        translate(make_translator(), rgb, labels, Style(ensemble=ensemble))


@pytest.mark.parametrize("target", [FP32, BF16], ids=["fp32", "bf16"])
def test_seed_0_is_the_learned_ensemble_in_any_arithmetic(target: Target) -> None:
    torch.manual_seed(0)
    network = SFlowNetwork("lite", len(CLASSES), EdgeSettings(), style_input=True).eval()
    logits = torch.tensor([0.51, 0.13, -0.27, 0.33, -0.41, 0.07])
    with torch.no_grad():
        network.dned.ensemble_logits.copy_(logits)
    translator = SFlowTranslator(network, name="test", model_id="0123456789ab", classes=CLASSES, target=target)
    weights, _ = translator._weights(Style())
    assert torch.equal(weights[0], torch.softmax(logits, 0))
    offsets = network.style_vector(weights)
    assert offsets is not None and offsets.abs().max() < 1e-6
    assert translate(translator, *street(), Style()).rgb.shape == (1, 64, 96, 3)


def test_bf16_is_close_to_fp32() -> None:
    rgb, labels = street()
    exact, rounded = (
        translate(make_translator(target), rgb, labels, Style()).rgb.astype(int) for target in (FP32, BF16)
    )
    assert np.abs(exact - rounded).mean() < 1.5


def test_frames_of_a_batch_do_not_touch_each_other() -> None:
    rgb, labels = street(batch=3)
    translator = make_translator()
    together = translate(translator, rgb, labels, Style()).rgb
    for i in range(3):
        alone = translate(translator, rgb[i : i + 1], labels[i : i + 1], Style()).rgb
        assert np.abs(alone[0].astype(int) - together[i]).max() <= 1


def test_an_id_beyond_the_classes_never_reaches_the_embedding() -> None:
    rgb, labels = street()
    labels[0, 5, 5] = len(CLASSES)
    with pytest.raises(TranslatorError, match="4 classes, but a label has the id 4"):
        translate(make_translator(), rgb, labels, Style())


def test_a_card_with_more_classes_than_the_network_is_no_way_past_the_guard() -> None:
    rgb, labels = street()
    labels[0, 5, 5] = len(CLASSES)
    translator = SFlowTranslator(
        make_network(), name="test", model_id="0123456789ab", classes=(*CLASSES, "water"), target=FP32
    )
    with pytest.raises(TranslatorError, match="4 classes, but a label has the id 4"):
        translate(translator, rgb, labels, Style())


def test_shapes_that_disagree_are_refused() -> None:
    rgb, labels = street()
    with pytest.raises(TranslatorError, match=r"\(1, 64, 96, 3\) and labels \(1, 63, 96\)"):
        translate(make_translator(), rgb, labels[:, 1:], Style())


def test_a_failing_device_is_one_sentence() -> None:
    translator = make_translator()

    class Exhausted:
        gpu_times = ()

        def run(self, *_: object) -> tuple[ByteArray, ByteArray]:
            raise torch.OutOfMemoryError("out of memory\nwith a page of statistics")

        def warm_up(self, width: int, height: int, batch: int = 1) -> None: ...

    translator._runner = Exhausted()
    with pytest.raises(TranslatorError, match=r"96x64 frame \(out of memory\): try a smaller --size$"):
        translate(translator, *street(), Style())


def test_a_bundle_is_loaded_by_path_and_knows_its_name(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "mine")

    class Settings:
        bundle, device, precision = str(path), "cpu", "fp32"

    translator = load_translator(Settings())
    assert isinstance(translator, Translator) and isinstance(translator, SFlowTranslator)
    assert (translator.name, translator.classes) == ("mine", CLASSES)
    assert len(translator.model_id) == 12 and int(translator.model_id, 16) >= 0
    assert translator.target == FP32
    rgb, labels = street()
    half = translate(make_translator(), rgb, labels, Style()).rgb.astype(int)
    assert np.abs(translate(translator, rgb, labels, Style()).rgb - half).mean() < 1.0  # stored as fp16


def test_damaged_bundles_are_translator_errors(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "mine")
    weights = path / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(TranslatorError, match="SHA-256"):
        SFlowTranslator.load(str(path), device="cpu")


def test_what_is_no_translator_is_the_users_mistake(tmp_path: Path) -> None:
    for wrong in ("nosuch", str(tmp_path)):
        with pytest.raises(UsageError, match=r"bundle .* is neither a folder with a card\.json nor"):
            SFlowTranslator.load(wrong, device="cpu")
    segmenter = SEGMENTERS["unet-segmenter"](len(CLASSES), 8)
    card = Card("unet-segmenter", segmenter.args, list(CLASSES), [96, 64], "none", "none", 0, "MIT", "none")
    save_bundle(tmp_path / "judge", segmenter, card)
    with pytest.raises(UsageError, match="no translator"):
        SFlowTranslator.load(str(tmp_path / "judge"), device="cpu")


@pytest.mark.parametrize(("licence", "told"), [("CC-BY-NC-4.0", True), ("Apache-2.0", False), ("CC-BY-4.0", False)])
def test_a_licence_with_conditions_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, licence: str, told: bool
) -> None:
    path = make_bundle(tmp_path / "mine", licence)
    with caplog.at_level(logging.WARNING):
        SFlowTranslator.load(str(path), device="cpu", precision="fp32")
    assert (licence in caplog.text) is told


def test_emulated_bf16_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles_module, "has_bf16", lambda device: False)
    path = make_bundle(tmp_path / "mine")
    assert SFlowTranslator.load(str(path), device="cpu", precision="bf16").target == BF16
    assert "--precision fp32 is faster" in caplog.text


def test_cuda_is_not_silently_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cpu"):
        SFlowTranslator.load(str(make_bundle(tmp_path / "mine")), device="cuda")


@pytest.fixture
def on_gpu() -> SFlowTranslator:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    return make_translator(choose_target("cuda", "fp32"))


@pytest.mark.gpu
def test_captured_equals_eager(on_gpu: SFlowTranslator) -> None:
    rgb, labels = street()
    eager = translate(on_gpu, rgb, labels, Style(seed=3))
    assert on_gpu._runner.eager_frames == 1  # type: ignore[attr-defined]
    on_gpu.warm_up([(96, 64)])
    captured = translate(on_gpu, rgb, labels, Style(seed=3))
    assert on_gpu._runner.eager_frames == 1  # type: ignore[attr-defined]
    assert np.abs(captured.rgb.astype(int) - eager.rgb).max() <= 2
    assert captured.edges is not None and eager.edges is not None
    assert np.abs(captured.edges.astype(int) - eager.edges).max() <= 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_with_hints_and_hues_is_captured(precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    made = make_translator(choose_target("cuda", precision), make_hinted_network())
    made.warm_up([(96, 64)])
    rgb, labels = street()
    captured = translate(made, rgb, labels, Style(seed=1))
    assert made._runner.eager_frames == 0  # type: ignore[attr-defined]
    on_cpu = translate(make_translator(FP32, make_hinted_network()), rgb, labels, Style(seed=1))
    assert np.abs(captured.rgb.astype(int) - on_cpu.rgb).mean() < 1.0


@pytest.mark.gpu
def test_captured_graphs_follow_their_inputs(on_gpu: SFlowTranslator) -> None:
    """Another picture, another style, another size in between: each replay reads what was given and nothing older."""
    on_gpu.warm_up([(96, 64), (64, 64)])
    rgb, labels = street()
    small_rgb, small_labels = street(height=64, width=64)
    first = translate(on_gpu, rgb, labels, Style())
    other = translate(on_gpu, rgb, labels, Style(seed=1))
    small = translate(on_gpu, small_rgb, small_labels, Style())
    again = translate(on_gpu, rgb, labels, Style())
    np.testing.assert_array_equal(first.rgb, again.rgb)
    assert not np.array_equal(first.rgb, other.rgb)
    np.testing.assert_array_equal(small.rgb, translate(on_gpu, small_rgb, small_labels, Style()).rgb)
    assert on_gpu._runner.eager_frames == 0  # type: ignore[attr-defined]


@pytest.mark.gpu
def test_each_batch_has_a_graph_of_its_own(on_gpu: SFlowTranslator) -> None:
    on_gpu.warm_up([(96, 64)], batch=3)
    rgb, labels = street(batch=3)
    alone = [translate(on_gpu, rgb[i : i + 1], labels[i : i + 1], Style(seed=2)).rgb[0] for i in range(3)]
    together = translate(on_gpu, rgb, labels, Style(seed=2)).rgb
    assert on_gpu._runner.eager_frames == 0  # type: ignore[attr-defined]
    assert np.abs(together.astype(int) - np.stack(alone)).max() <= 2


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_processor(on_gpu: SFlowTranslator) -> None:
    rgb, labels = street()
    on_gpu.warm_up([(96, 64)])
    difference = (
        translate(on_gpu, rgb, labels, Style()).rgb.astype(int) - translate(make_translator(), rgb, labels, Style()).rgb
    )
    assert np.abs(difference).mean() < 1.0


def test_the_answer_says_the_ensemble_weights_it_was_made_with() -> None:
    rgb, labels = street()
    translator = make_translator()
    drawn = translate(translator, rgb, labels, Style(seed=3)).used["ensemble"]
    assert drawn == pytest.approx(make_network().style_weights(3).tolist())
    given = translate(translator, rgb, labels, Style(ensemble=(2.0, 0.0, 0.0, 0.0, 0.0, 2.0))).used["ensemble"]
    assert given == (0.5, 0.0, 0.0, 0.0, 0.0, 0.5)


def test_the_edge_map_is_the_operators_and_leaves_the_networks_threads_alone() -> None:
    rgb, labels = street(height=256, width=512)
    translator = make_translator()
    torch.set_num_threads(2)
    translate(translator, rgb, labels, Style())
    with ThreadPoolExecutor(1) as other:
        edges, threads = other.submit(lambda: (translator.edge_map(rgb[0]), torch.get_num_threads())).result()
    assert np.array_equal(edges, make_network().operator(torch.tensor(rgb))[0, 0].numpy() * np.uint8(255))
    assert edges.any() and not edges.all()
    assert (threads, torch.get_num_threads()) == (1, 2)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1e-50, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0)),
        ((1e39,) * 6, (1 / 6,) * 6),
        ((1e308, 1e308, 0, 0, 0, 0), (0.5, 0.5, 0, 0, 0, 0)),
    ],
)
def test_weights_that_float32_cannot_hold_are_shares_all_the_same(
    given: tuple[float, ...], wanted: tuple[float, ...]
) -> None:
    answer = translate(make_translator(), *street(), Style(ensemble=given))
    assert answer.used["ensemble"] == pytest.approx(wanted)
    assert answer.rgb.any()


def test_two_cameras_styles_are_drawn_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = sflow_module.ensemble_weights

    def counting(logits: torch.Tensor, seed: int, *more: float) -> torch.Tensor:
        drawn.append(seed)
        return draw(logits, seed, *more)

    monkeypatch.setattr(sflow_module, "ensemble_weights", counting)
    translator = make_translator()
    for seed in (1, 2) * 3:
        translate(translator, *street(), Style(seed=seed))
    assert drawn == [1, 2]


def test_an_edge_map_leaves_the_threads_of_others_alone() -> None:
    translator = SFlowTranslator.load("camvid-lite", device="cpu")
    seen: dict[str, int] = {}

    def draw() -> None:
        seen["before"] = torch.get_num_threads()
        translator.edge_map(np.zeros((32, 32, 3), np.uint8))
        seen["drawing"] = torch.get_num_threads()

    def look() -> None:
        seen["later"] = torch.get_num_threads()

    for target in (draw, look):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert (seen["drawing"], seen["later"]) == (1, seen["before"])
