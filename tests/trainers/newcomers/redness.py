"""A metric in one function."""

import numpy as np

from trainers.scores.evaluate import Pictures


def redness(pictures: Pictures) -> dict[str, float]:
    """Mean of the red channel, grey levels."""
    return {"redness": float(np.mean([made[..., 0].mean() for made in pictures.made]))}
