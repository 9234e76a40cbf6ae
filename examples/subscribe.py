"""Reads photoreal frames from a running bridge and says what it gets; needs no torch and no OpenCV.

python subscribe.py --save photoreal.ppm
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from sim_bridge.client import DEFAULT_ADDRESS, Subscriber
from sim_bridge.errors import SimBridgeError
from sim_bridge.frames import Encoding, Frame


def line_of(frame: Frame, now: int) -> str:
    """What there is to say of a frame in one line; ``now`` in nanoseconds since the epoch."""
    text = f"frame {frame.number}  t {frame.time:.2f} s  {frame.width}x{frame.height} {frame.encoding}"
    if frame.provenance is None:
        return f"{text}  sent {(now - frame.sent) / 1e6:.1f} ms ago"
    made = frame.provenance
    in_bridge = (made.published - made.received) / 1e6
    return f"{text}  {in_bridge:.1f} ms in the bridge  model {made.model} seed {made.seed} {made.status}"


def save(frame: Frame, path: Path) -> None:
    """Writes a raw colour frame as a PPM file, which needs no library."""
    order = {Encoding.RGB8: (0, 1, 2), Encoding.BGR8: (2, 1, 0), Encoding.BGRA8: (2, 1, 0)}.get(frame.encoding)
    if order is None:
        path = path.with_suffix(f".{frame.encoding}")
        path.write_bytes(frame.pixels.tobytes())
    else:
        rgb = np.ascontiguousarray(frame.pixels[..., order])
        path.write_bytes(b"P6 %d %d 255\n" % (frame.width, frame.height) + rgb.tobytes())
    print(f"wrote {path}")


def main() -> int:
    """Reads the flags, then frames until there are no more."""
    parser = argparse.ArgumentParser(description="Print what a bridge publishes.")
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="where the bridge publishes (default: %(default)s)")
    parser.add_argument("--camera", default="camera", help="name of the camera (default: %(default)s)")
    parser.add_argument("--kind", default="photoreal", help="which stream (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=None, help="how many (default: until Ctrl-C)")
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds to wait for a frame (default: %(default)g)"
    )
    parser.add_argument("--save", type=Path, default=None, help="write the last frame to this file")
    flags = parser.parse_args()
    frame: Frame | None = None
    count = 0
    try:
        with Subscriber(flags.address, camera=flags.camera, kinds=(flags.kind,)) as subscriber:
            while flags.frames is None or count < flags.frames:
                frame, count = subscriber.next_frame(flags.timeout), count + 1
                print(line_of(frame, time.time_ns()))
    except KeyboardInterrupt:
        print(f"{count} frames")
    except SimBridgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if frame is not None and flags.save is not None:
        save(frame, flags.save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
