"""Files of weights in the layout of the published ones, made on the spot: they test the loading, not the sight."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import vgg19


def vgg19_state() -> dict[str, Tensor]:
    """Random features of VGG19 in half precision; the classifier, which is most of the file, is one number."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in vgg19(weights=None).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if not name.startswith("features."):
            state[name] = torch.zeros(1)
        elif name.endswith("bias"):
            state[name] = torch.zeros(shape).half()
        else:
            fan_in = shape[1] * shape[2] * shape[3]
            state[name] = (torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5).half()
    return state


def write_vgg19(path: Path) -> Path:
    """A file of weights without a hash in its name, so that only an explicit path can mean it."""
    torch.save(vgg19_state(), path)
    return path
