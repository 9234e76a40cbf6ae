"""Products of many vectors with one small matrix.

Not by ``@``: numpy hands these to its BLAS, which is ten times slower on such thin matrices and, worse, leaves worker
threads spinning on all cores long after each product, in the way of the ray caster, the network and everybody else.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from plugins.toytown.town.surfaces import FloatArray


def turned(vectors: FloatArray, matrix: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Every vector times a matrix, ``vectors @ matrix``.

    Args:
        vectors: float32 ``(n, 3)``.
        matrix: ``(3, m)`` with m up to 4.

    Returns:
        float32 ``(n, m)``.
    """
    columns = matrix.shape[1]
    if not len(vectors):
        return np.zeros((0, columns), np.float32)
    rows = np.ascontiguousarray(vectors, np.float32).reshape(1, -1, 3)
    return np.asarray(cv2.transform(rows, matrix.T.astype(np.float32)), np.float32).reshape(-1, columns)


def along(vectors: FloatArray, direction: FloatArray) -> FloatArray:
    """How far every vector ``(n, 3)`` reaches along a direction ``(3,)``: their dot products, float32 ``(n,)``."""
    return turned(vectors, direction.reshape(3, 1)).ravel()
