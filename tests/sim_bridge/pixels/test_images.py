"""Images: whole files come back as stored, all others are one clear error before anything is decoded."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import os
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.errors import ImageError, MissingExtraError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.pixels.images import decode_image, read_header, read_image, to_ids, to_rgb, write_jpeg, write_png
from sim_bridge.pixels.labels import taxonomy
from sim_bridge.recordings.captures import read_ids, read_rgb

Bytes = npt.NDArray[np.uint8]
NOISE = np.random.default_rng(0)
PICTURE: Bytes = cv2.GaussianBlur(NOISE.integers(0, 256, (40, 60, 3), dtype=np.uint8), (0, 0), 3).astype(np.uint8)
DATA = os.environ.get("SIM_BRIDGE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes | None = None, *, depth: int = 8, color: int = 0) -> bytes:
    """A PNG by hand, with valid checksums whatever the header says; None: a true grey image."""
    body = zlib.compress(b"".join(b"\0" + b"\7" * width for _ in range(height))) if data is None else data
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def compressed(extension: str, array: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(extension, array)[1].tobytes())


PNG, JPEG = compressed(".png", PICTURE), compressed(".jpg", PICTURE)


def frame(
    encoding: Encoding, pixels: npt.NDArray[Any], size: tuple[int, int] = (60, 40), kind: Kind = Kind.RGB
) -> Frame:
    return Frame(
        camera="camera",
        kind=kind,
        number=5,
        time=0.0,
        session="run",
        encoding=encoding,
        width=size[0],
        height=size[1],
        pixels=pixels,
        sent=0,
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_files_come_back_as_they_were(
    tmp_path: Path, shape: tuple[int, ...], dtype: type[np.uint8 | np.uint16]
) -> None:
    array = NOISE.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    write_png(tmp_path / "a.png", array)
    back = read_image(tmp_path / "a.png")
    assert back.dtype == dtype
    assert np.array_equal(back, array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_jpeg_quality_is_kept(tmp_path: Path) -> None:
    errors = []
    for quality in (30, 95):
        write_jpeg(tmp_path / "a.jpg", PICTURE, quality)
        back = read_image(tmp_path / "a.jpg")
        assert back.shape == PICTURE.shape
        errors.append(np.abs(back.astype(int) - PICTURE.astype(int)).mean())
    assert errors[1] < min(errors[0], 2)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint16), np.zeros((4, 4, 2), np.uint8)]
)
def test_a_jpeg_cannot_hold_everything(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError, match="write a PNG"):
        write_jpeg(tmp_path / "a.jpg", array)


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4), np.uint8), np.zeros((4, 4, 7), np.uint8), np.zeros((4, 4), np.complex64)]
)
def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"a\.png"):
        write_png(tmp_path / "a.png", array)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_png(path, PICTURE)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match="No space left"):
        write_png(path, PICTURE[:5])
    assert np.array_equal(read_image(path), PICTURE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        write_png(tmp_path / "missing" / "a.png", PICTURE)
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["png", "jpeg"])
def test_every_truncation_is_refused(data: bytes) -> None:
    assert read_header(data)[1:3] == (60, 40)
    for length in range(len(data) - 1):
        with pytest.raises(ImageError):
            decode_image(data[:length], expect=None)


@given(st.data())
def test_flipped_bits_in_a_png_are_refused(data: st.DataObject) -> None:
    broken = bytearray(PNG)
    broken[data.draw(st.integers(0, len(PNG) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ImageError):
        decode_image(broken, expect=None)


@given(st.data())
def test_flipped_bits_in_a_jpeg_are_refused_or_keep_the_size(data: st.DataObject) -> None:
    broken = bytearray(JPEG)
    broken[data.draw(st.integers(0, len(JPEG) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        image = decode_image(broken, expect=(60, 40))
    except ImageError as error:
        assert str(error).isprintable()
    else:
        assert image.shape[:2] == (40, 60)


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x02"]), st.binary(max_size=300)
)
def test_arbitrary_bytes_raise_only_image_errors(start: bytes, data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(start + data, expect=None)


BAD = {
    "zero width": (png(0, 4, b"x"), "0x4 pixels"),
    "zero height": (png(4, 0, b"x"), "4x0 pixels"),
    "bomb": (png(60_000, 60_000, b"x"), "60000x60000 pixels"),
    "long bomb": (png(2**31, 1, b"x"), "2147483648x1 pixels"),
    "too many pixels": (png(16384, 16384, b"x"), "16384x16384 pixels"),
    "too few rows in the data": (png(8, 8, zlib.compress(b"\0" + b"\7" * 8)), "damaged"),
    "data that is no zlib stream": (png(8, 8, b"garbage"), "damaged"),
    "no data": (png(8, 8, b""), "damaged"),
    "impossible depth": (png(8, 8, depth=5), "no valid header"),
    "impossible colour type": (png(8, 8, color=5), "no valid header"),
    "no header chunk": (PNG[:8] + PNG[33:], "no valid header"),
    "gif": (b"GIF89a" + bytes(100), "neither PNG nor JPEG"),
    "pickle": (b"\x80\x04\x95\x0b", "neither PNG nor JPEG"),
    "nothing": (b"", "neither PNG nor JPEG"),
    "jpeg without a frame header": (b"\xff\xd8\xff\xda\x00\x02" + bytes(20) + b"\xff\xd9", "damaged JPEG"),
    "jpeg whose segment has length 0": (b"\xff\xd8\xff\xe0\x00\x00" + bytes(50), "damaged JPEG"),
}


@pytest.mark.parametrize(("data", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_images_are_one_clear_error_before_decoding(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=sentence) as caught:
            read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "bad.png" in str(caught.value)


def test_limits_and_announced_sizes_count() -> None:
    with pytest.raises(ImageError, match=r"60x40 pixels.*2399 in all"):
        decode_image(PNG, expect=None, max_pixels=2399)
    assert decode_image(memoryview(PNG), expect=(60, 40), max_pixels=2400).shape == (40, 60, 3)
    for data in (PNG, JPEG):
        with pytest.raises(ImageError, match=r"60x40 pixels, but 40x60 were announced"):
            decode_image(data, expect=(40, 60))


def test_exif_rotation_does_not_turn_pictures_away_from_their_labels() -> None:
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEG[2:]
    assert decode_image(turned, expect=(60, 40)).shape == (40, 60, 3)


def test_every_encoding_of_one_picture_gives_the_same_rgb() -> None:
    rgb = np.ascontiguousarray(PICTURE[..., ::-1])
    stored = {
        Encoding.RGB8: rgb,
        Encoding.BGR8: PICTURE,
        Encoding.BGRA8: np.dstack([PICTURE, np.full((40, 60), 9, np.uint8)]),
        Encoding.PNG: np.frombuffer(PNG, np.uint8),
    }
    for encoding, pixels in stored.items():
        pixels.flags.writeable = False
        found = to_rgb(frame(encoding, pixels))
        assert found.flags.c_contiguous
        assert np.array_equal(found, rgb)
    lossy = to_rgb(frame(Encoding.JPEG, np.frombuffer(JPEG, np.uint8)))
    assert np.abs(lossy.astype(int) - rgb.astype(int)).mean() < 2


def test_rgb_and_ids_are_views_where_they_can_be() -> None:
    rgb, ids = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    assert to_rgb(frame(Encoding.RGB8, rgb)) is rgb
    assert np.shares_memory(to_ids(frame(Encoding.MONO8, ids, kind=Kind.SEMANTIC)), ids)


def test_pngs_of_other_channel_counts_are_pictures_too() -> None:
    grey = PICTURE[..., 0]
    assert np.array_equal(to_rgb(frame(Encoding.PNG, np.frombuffer(compressed(".png", grey), np.uint8)))[..., 2], grey)
    rgba = np.dstack([PICTURE, PICTURE[..., :1]])
    found = to_rgb(frame(Encoding.PNG, np.frombuffer(compressed(".png", rgba), np.uint8)))
    assert np.array_equal(found, PICTURE[..., ::-1])


def test_ids_come_out_of_pngs_exactly() -> None:
    ids = NOISE.integers(0, 256, (40, 60), dtype=np.uint8)
    data = np.frombuffer(compressed(".png", ids), np.uint8)
    assert np.array_equal(to_ids(frame(Encoding.PNG, data, kind=Kind.SEMANTIC)), ids)


def reduced_png(values: Bytes, depth: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits, as optimisers make it."""
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png(values.shape[1], values.shape[0], data, depth=depth)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_ids_in_pngs_of_few_bits_are_ids_and_pictures_have_their_brightness(tmp_path: Path, depth: int) -> None:
    """OpenCV spreads 1, 2, 3 of 4 bits to 17, 34, 51: right for brightness, another class for ids."""
    ids = (np.arange(40 * 61, dtype=np.uint32) % 2**depth).astype(np.uint8).reshape(40, 61)
    data = reduced_png(ids, depth)
    (tmp_path / "a.png").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "a.png"), ids)
    assert np.array_equal(read_ids(tmp_path / "a.png", taxonomy("carla-0.9.14")), ids)
    sent = frame(Encoding.PNG, np.frombuffer(data, np.uint8), (61, 40), Kind.SEMANTIC)
    assert np.array_equal(to_ids(sent), ids)
    bright = ids * (255 // (2**depth - 1))
    for picture in (read_rgb(tmp_path / "a.png"), to_rgb(sent)):
        assert np.array_equal(picture, np.dstack([bright] * 3))


@pytest.mark.parametrize("array", [PICTURE, PICTURE[..., 0].astype(np.uint16)], ids=["colours", "16 bits"])
def test_a_semantic_png_that_holds_no_ids(array: npt.NDArray[Any]) -> None:
    data = np.frombuffer(compressed(".png", array), np.uint8)
    with pytest.raises(ImageError, match="one channel of 8 bits"):
        to_ids(frame(Encoding.PNG, data, kind=Kind.SEMANTIC))


def test_frames_that_are_no_pictures_or_lie_about_their_size() -> None:
    with pytest.raises(ImageError, match="not a picture's"):
        to_rgb(frame(Encoding.MONO8, np.zeros((40, 60), np.uint8)))
    with pytest.raises(ImageError, match="send mono8 or png"):
        to_ids(frame(Encoding.RGB8, np.zeros((40, 60, 3), np.uint8)))
    with pytest.raises(ImageError, match="were announced"):
        to_rgb(frame(Encoding.JPEG, np.frombuffer(JPEG, np.uint8), size=(8192, 8192)))
    with pytest.raises(ImageError, match="8 bits a channel"):
        deep = np.frombuffer(compressed(".png", PICTURE.astype(np.uint16)), np.uint8)
        to_rgb(dataclasses.replace(frame(Encoding.PNG, deep), camera="front"))


def test_without_opencv_the_error_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real(name, globals, locals, fromlist, level)

    monkeypatch.delitem(sys.modules, "sim_bridge.pixels.images")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"opencv-python-headless.*pip install '\.\[engine\]'"):
        importlib.import_module("sim_bridge.pixels.images")


@needs_data
def test_every_real_capture_is_read() -> None:
    paths = [path for path in Path(DATA or "", "carla").rglob("*") if path.suffix in {".png", ".jpg", ".jpeg"}]
    assert len(paths) > 20
    for path in paths:
        image = read_image(path)
        header = read_header(path.read_bytes())
        assert image.shape[:2] == (header.height, header.width)
        assert image.std() > 0
