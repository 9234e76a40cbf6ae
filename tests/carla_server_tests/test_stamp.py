"""Stamps survive what happens to pictures on their way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.carla_server.stamp import PIXELS, Stamp, read_stamp

STAMPS = st.builds(Stamp, st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 255))


@given(STAMPS, st.integers(0, 255), st.integers(0, 255), st.sampled_from([8, 64, 512]))
def test_any_two_values_hold_a_stamp(stamp: Stamp, zero: int, one: int, width: int) -> None:
    picture = np.full((-(-PIXELS // width) + 1, width), 7, np.uint8)
    picture.reshape(-1)[:PIXELS] = np.where(stamp.bits(), one, zero)
    if zero == one:
        with pytest.raises(ValueError, match="its first two pixels are alike"):
            read_stamp(picture)
    else:
        assert read_stamp(picture) == stamp


@given(STAMPS, st.integers(2, PIXELS - 1))
def test_a_wrong_bit_is_found(stamp: Stamp, place: int) -> None:
    bits = stamp.bits().copy()
    bits[place] ^= True
    with pytest.raises(ValueError, match="check bits"):
        read_stamp(bits.reshape(1, -1))


def test_pictures_that_are_too_small() -> None:
    with pytest.raises(ValueError, match="no stamp"):
        read_stamp(np.arange(32).reshape(4, 8))
