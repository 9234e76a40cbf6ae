"""A tiny drawn data set in CamVid's layout."""

from pathlib import Path

import cv2
import numpy as np


def draw_camvid(root: Path, train: int = 4, val: int = 2, size: tuple[int, int] = (96, 64)) -> Path:
    """Sky, road, a building with windows, and a car, shifted from picture to picture."""
    width, height = size
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for i in range(count):
            labels = np.zeros((height, width), np.uint8)
            labels[height // 2 :] = 3
            labels[height // 8 : height // 2 + 4, 5 + i : 40 + i] = 1
            labels[height // 2 + 6 : height // 2 + 16, 50 + i : 70 + i] = 8
            labels[-3:] = 11
            colours = rng.integers(40, 220, (12, 3))
            rgb = colours[labels] + rng.normal(0, 8, (height, width, 3))
            rgb[height // 4 : height // 3, 10 + i : 34 + i : 5] = 20
            cv2.imwrite(str(root / split / f"0001A_{i:04d}.png"), np.clip(rgb, 0, 255).astype(np.uint8))
            cv2.imwrite(str(root / f"{split}annot" / f"0001A_{i:04d}.png"), labels)
    return root
