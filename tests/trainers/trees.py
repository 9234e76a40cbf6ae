"""Tiny drawn data sets in the exact layouts of Cityscapes and SYNTHIA."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter

Ids = npt.NDArray[np.uint8]


def scene(shift: int, ids: dict[str, int], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Ids]:
    """A BGR picture and labels: sky, building, road with a line, a car; shifted from picture to picture."""
    width, height = size
    labels = np.full((height, width), ids["sky"], np.uint8)
    labels[height // 8 : height // 2, 5 : width // 2] = ids["building"]
    labels[height // 2 :] = ids["road"]
    labels[-6:-4] = ids["road line"]
    labels[height // 2 + 4 : height // 2 + 14, 10 + shift : 30 + shift] = ids["car"]
    rng = np.random.default_rng(shift)
    colours = np.random.default_rng(7).integers(30, 220, (256, 3))
    return np.clip(colours[labels] + rng.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8), labels


CITYSCAPES_IDS = {"sky": 23, "building": 11, "road": 7, "road line": 9, "car": 26}  # 9 is parking


def draw_cityscapes(root: Path, size: tuple[int, int] = (128, 64), neighbours: Iterable[int] = ()) -> Path:
    """Two cities that train, one that validates; three photographs each, and frames of the video around each."""
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "lindau")):
        photographs, labels = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
        photographs.mkdir(parents=True)
        labels.mkdir(parents=True)
        for sequence in range(3):
            name = f"{city}_{sequence:06d}_000019"
            picture, ids = scene(sequence, CITYSCAPES_IDS, size)
            cv2.imwrite(str(photographs / f"{name}_leftImg8bit.png"), picture)
            cv2.imwrite(str(labels / f"{name}_gtFine_labelIds.png"), ids)
            things = ids.astype(np.uint16)
            cars = things == CITYSCAPES_IDS["car"]
            things[cars] = 26000 + (np.nonzero(cars)[1] >= 20 + sequence)  # one behind the other
            cv2.imwrite(str(labels / f"{name}_gtFine_instanceIds.png"), things)
            video = root / "leftImg8bit_sequence" / split / city
            for frame in neighbours:
                video.mkdir(parents=True, exist_ok=True)
                moved = np.roll(picture, 19 - frame, 1)
                cv2.imwrite(str(video / f"{city}_{sequence:06d}_{frame:06d}_leftImg8bit.png"), moved)
    return root


RANDOM_IDS = {"sky": 1, "building": 2, "road": 3, "road line": 22, "car": 8}
SEQUENCE_IDS = {"sky": 1, "building": 2, "road": 3, "road line": 12, "car": 8}


def draw_synthia(root: Path, view: str, digits: int, count: int, ids: dict[str, int], offset: int = 0) -> Path:
    """One download of SYNTHIA: labels of 16 bits and three channels, the class first, the instance second."""
    pictures, annotations = root / "RGB" / view, root / "GT" / "LABELS" / view
    pictures.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for number in range(count):
        picture, classes = scene(number, ids, (96, 64))
        stored = np.zeros((*classes.shape, 3), np.uint16)
        stored[..., 2] = classes  # OpenCV's order: the file's first channel comes last
        stored[..., 1] = np.where(classes == ids["car"], 3000 + number, 0)
        cv2.imwrite(str(pictures / f"{number + offset:0{digits}d}.png"), picture)
        cv2.imwrite(str(annotations / f"{number + offset:0{digits}d}.png"), stored)
    return root


def draw_random_views(root: Path, count: int = 10) -> Path:
    return draw_synthia(root, "", 7, count, RANDOM_IDS)


def draw_sequences(root: Path, count: int = 10) -> Path:
    for name in ("SYNTHIA-SEQS-05-SPRING", "SYNTHIA-SEQS-06-FOG"):
        draw_synthia(root / name, "Stereo_Left/Omni_F", 6, count, SEQUENCE_IDS)
        draw_synthia(root / name, "Stereo_Right/Omni_F", 6, 2, SEQUENCE_IDS)
    return root


def draw_flowing(root: Path, frames: int = 6) -> Path:
    """Two recordings that train: a pattern and a car that move by (2, 1) pixels a frame, with depth, pose and flow."""
    rng = np.random.default_rng(3)
    world = cv2.GaussianBlur(rng.integers(0, 255, (128, 160, 3)).astype(np.uint8), (0, 0), 1.5)
    flow = np.zeros((64, 96, 2), np.float32) + np.float32([2, 1])
    for name in ("first", "second"):
        with RecordingWriter(root / "train" / name, RecordingInfo(taxonomy="toytown", licence="CC0-1.0")) as writer:
            for number in range(frames):
                top, left = 40 - number, 40 - 2 * number
                labels = np.full((64, 96), 7, np.uint8)
                labels[20 + number : 40 + number, 10 + 2 * number : 40 + 2 * number] = 26
                images = {
                    Folder.RGB: np.ascontiguousarray(world[top : top + 64, left : left + 96]),
                    Folder.SEMANTIC: labels,
                    Folder.DEPTH: np.full((64, 96), 5 + number, np.float32),
                    Folder.FLOW: flow,
                }
                files = {f: writer.write_image("camera", f, number, image) for f, image in images.items()}
                pose = np.eye(4)
                pose[2, 3] = number
                writer.add(RecordedFrame("camera", number, number / 10, pose, files))
    return root
