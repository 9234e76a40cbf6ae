"""A training whose numbers end says at which step, in which loss and where, and keeps what it had."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trainers import group_processes as gp
from trainers.errors import TrainingError
from trainers.loop.guard import bad_gradient, bad_output, bad_weight, first_bad_value, total_norm
from trainers.loop.loop import train
from trainers.loop.training import Training

pytestmark = pytest.mark.usefixtures("one_thread")


def weight_of_the_trunk(run: Training) -> None:
    with torch.no_grad():
        run.network.generator.trunk16.convs[1].weight[0, 0, 0, 0] = float("inf")


def output_of_the_decoder(run: Training) -> None:
    """Weights that are finite, and too large together."""
    with torch.no_grad():
        run.network.generator.up4.project.weight.fill_(3e38)


def gradient_of_the_last_layer(run: Training) -> None:
    def spoil(gradient: Tensor) -> Tensor:
        return gradient * float("nan")

    run.network.generator.tail[1].bias.register_hook(spoil)


def discriminator(run: Training) -> None:
    with torch.no_grad():
        run.system.discriminator.score.bias.fill_(float("nan"))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (
            weight_of_the_trunk,
            r"the loss 'pixel' is nan at step 3; the weight 'network\.generator\.trunk16\.convs\.1\.weight'"
            r" \(1 of \d+ numbers\) is not finite: go on from the last checkpoint",
        ),
        (
            output_of_the_decoder,
            r"the loss 'pixel' is nan at step 3; the first output that is not finite is that of"
            r" 'network\.generator\.up4\.project': go on",
        ),
        (
            gradient_of_the_last_layer,
            r"all losses are finite but a gradient is not at step 3; weights and outputs are finite, the gradient of"
            r" 'network\.generator\.tail\.1\.bias' \(3 of 3 numbers\) is not: go on",
        ),
        (
            discriminator,
            r"the loss 'g' is nan at step 3; the weight 'discriminator\.score\.bias' \(1 of 1 numbers\) is not finite",
        ),
    ],
)  # fmt: skip
def test_the_first_place_that_is_no_number_is_named(
    recipe: Path, camvid: Path, tmp_path: Path, break_it: Callable[[Training], None], sentence: str
) -> None:
    run = gp.make_trainer(recipe, camvid, tmp_path / "run", checkpoint_every=2)
    gp.before_step(run, 3, lambda: break_it(run))
    with pytest.raises(TrainingError, match=sentence):
        train(run)
    state = run.folder.load()
    assert state["step"] == 2
    assert all(bool(torch.isfinite(v).all()) for v in state["networks"]["network"].values())
    # Training goes on from there as the sentence says.
    assert train(gp.make_trainer(recipe, camvid, tmp_path / "run", resume=True, checkpoint_every=2))


def test_a_weight_that_reaches_no_loss_is_found_before_it_is_saved(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    """The hyperbolic tangent at the generator's end makes an infinite bias a finite picture without a gradient."""
    run = gp.make_trainer(recipe, camvid, tmp_path / "run", checkpoint_every=2)
    with torch.no_grad():
        run.network.generator.tail[1].bias[1] = float("inf")
    with pytest.raises(TrainingError, match=r"'network\.generator\.tail\.1\.bias' \(1 of 3 numbers\) is not"):
        train(run)
    assert not run.folder.checkpoint.exists()


def test_all_processes_name_what_one_of_them_met(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    outcomes = gp.train_on_two(tmp_path / "run", gp.spoil_the_batch, recipe=recipe, camvid=camvid, checkpoint_every=2)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["error"] == "TrainingError"
    assert "the loss 'pixel' is nan at step 3; the samples' x 0 is not finite" in outcomes[0]["sentence"]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2


def test_finders_find_the_first() -> None:
    chain = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    modules = {"chain": chain}
    x = torch.ones(1, 2)
    chain(x).sum().backward()
    assert bad_weight(modules) is bad_gradient(modules) is bad_output(modules, lambda: chain(x)) is None
    assert first_bad_value({"a": 1.0, "b": math.inf, "c": math.nan}) == "b"
    assert chain[2].weight.grad is not None
    chain[2].weight.grad[0, 1] = math.nan
    assert bad_gradient(modules) == "'chain.2.weight' (1 of 4 numbers)"
    assert not torch.isfinite(total_norm([chain[0].weight.detach(), chain[2].weight.grad]))
    with torch.no_grad():
        chain[0].bias.fill_(math.inf)
    assert bad_weight(modules) == "'chain.0.bias' (2 of 2 numbers)"
    assert bad_output(modules, lambda: chain(x)) == "'chain.0'"
    assert all(not m._forward_hooks for m in chain.modules())  # looking leaves no trace
