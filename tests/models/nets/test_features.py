"""Published weights: used where they are, refused with one sentence where they are not, never replaced."""

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torchvision.models import VGG19_Weights, vgg19

from models.bundles.published import WeightsError, load_published
from models.losses.perceptual import Perceptual
from models.nets.features import IMAGENET_MEAN, IMAGENET_STD, VGG19Features
from tests.models.published_file import vgg19_state, write_vgg19


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vgg19(tmp_path_factory.mktemp("vgg") / "mine.pth")


def test_slices_are_vgg19s_activations_of_imagenet_normalised_pictures(weights: Path) -> None:
    """relu1_1 to relu5_1 by the names of Simonyan and Zisserman: the first convolution of each of the five blocks."""
    network = VGG19Features(weights).eval()
    with torch.device("meta"):
        layers = vgg19(weights=None).features
    state = {k.removeprefix("features."): v.float() for k, v in vgg19_state().items() if k.startswith("features.")}
    layers.load_state_dict(state, assign=True)
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    x = ((image + 1) / 2 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    pools = [-1, *(i for i, layer in enumerate(layers) if isinstance(layer, torch.nn.MaxPool2d))]
    with torch.no_grad():
        expected = [layers[: first + 3](x) for first, _ in pairwise(pools)]
        found = network.features(image)
    assert [f.shape[1] for f in found] == [64, 128, 256, 512, 512]
    assert [48 // f.shape[-1] for f in found] == [1, 2, 4, 8, 16]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_perceptual_loss_of_vgg19_trains_the_picture_and_not_the_network(weights: Path) -> None:
    network = VGG19Features(weights)
    loss = Perceptual(network, blur=False, normalise=False)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    fake = (x * 0.5).requires_grad_()
    loss(x, fake).backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_without_published_weights_there_is_no_network(hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        VGG19Features()
    message = str(caught.value)
    assert "vgg19-dcbb9e9d.pth" in message and str(hub) in message and "no route to host" in message
    assert VGG19_Weights.IMAGENET1K_V1.url in message and "perceptual_weights" in message
    assert "\n" not in message
    assert not list(hub.glob("*"))  # no half of a file is left behind


def test_a_file_under_the_published_name_must_have_the_published_hash(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "vgg19-dcbb9e9d.pth").write_bytes(b"another file")
    with pytest.raises(WeightsError, match=r"SHA-256 [0-9a-f]{8}\.\.\., their name says dcbb9e9d: the file is damaged"):
        VGG19Features()
    with pytest.raises(WeightsError, match="their name says dcbb9e9d"):
        VGG19Features(hub / "vgg19-dcbb9e9d.pth")


def test_a_copy_of_another_name_that_is_not_the_published_file_is_told(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    VGG19Features(weights)
    assert "the published ones dcbb9e9d: they are taken at your word" in caplog.text


def test_files_are_fetched_once_and_checked(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.request import urlopen

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    plain = tmp_path / "plain.pth"
    torch.save({"a": torch.ones(2)}, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    good, bad = tmp_path / f"tiny-{digest[:8]}.pth", tmp_path / f"tiny-{'0' * 8}.pth"
    for file in (good, bad):
        file.write_bytes(plain.read_bytes())
    assert torch.equal(load_published(good.as_uri(), None, "option")["a"], torch.ones(2))
    good.unlink()
    assert torch.equal(load_published(good.as_uri(), None, "option")["a"], torch.ones(2))
    with pytest.raises(WeightsError, match="cannot be fetched"):
        load_published(bad.as_uri(), None, "option")
    assert [p.name for p in hub.iterdir()] == [good.name]


def test_paths_that_are_no_weights_of_this_network_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"perceptual_weights names .*absent\.pth, which is no file"):
        VGG19Features(tmp_path / "absent.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cut\.pth is no file of weights"):
        VGG19Features(cut)
    cut.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cut\.pth is empty: fetch or write it again"):
        VGG19Features(cut)
    torch.save([1, 2], cut)
    with pytest.raises(WeightsError, match="holds no state dict"):
        VGG19Features(cut)
    torch.save({k: v for k, v in vgg19_state().items() if k != "features.28.weight"}, cut)
    with pytest.raises(WeightsError, match=r"'28\.weight' is missing there, \(512, 512, 3, 3\) in the network"):
        VGG19Features(cut)


class Bomb:
    """Unpickling it would make a file: the test looks for it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("unpickled"),))  # type: ignore[return-value]


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match="is no file of weights"):
        VGG19Features(tmp_path / "bomb.pth")
    assert not Path("unpickled").exists()
