"""Ray casting: Embree through ``embreex``, or through ``open3d`` where that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from plugins.toytown.town.surfaces import BoolArray, FloatArray, IntArray
from sim_bridge.errors import MissingExtraError, UsageError

MISS: Final = -1
_THREADS: Final = 2
_POOL: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix="toytown-rays")
_LEAST_SHARED: Final = 4096
"""Fewer rays than this are not worth a second thread."""
_PARTS: Final = 8
"""Parts that shared rays are cut into: those towards the ground are twice as fast as those towards
houses and trees, and with two halves one thread waited for the other a third of the time."""


class Hits(NamedTuple):
    """What rays met first.

    Attributes:
        distance: float32 ``(N,)`` in lengths of the ray's direction; inf where it met nothing.
        triangle: int32 ``(N,)``; :data:`MISS` where it met nothing.
        uv: float32 ``(N, 2)``, barycentric weights of the triangle's second and third corner.
    """

    distance: FloatArray
    triangle: IntArray
    uv: FloatArray


class Caster(Protocol):
    """Triangles that rays are cast into; origins and directions are float32 ``(N, 3)``, one origin may serve all."""

    def cast(self, origins: FloatArray, directions: FloatArray) -> Hits:
        """The first triangle on each ray."""

    def blocked(self, origins: FloatArray, directions: FloatArray, reach: float = np.inf) -> BoolArray:
        """Whether each ray meets anything within ``reach`` lengths of its direction, bool ``(N,)``."""


CasterFactory = Callable[[FloatArray, IntArray], Caster]


class Backend(StrEnum):
    """What casts the rays."""

    EMBREEX = "embreex"
    OPEN3D = "open3d"


def caster_factory(backend: Backend = Backend.EMBREEX) -> CasterFactory:
    """What makes a caster of vertices ``(V, 3)`` and triangles ``(T, 3)``.

    Raises:
        MissingExtraError: The backend's package is not installed.
        UsageError: It is installed and cannot be loaded.
    """
    try:
        if backend is Backend.OPEN3D:
            import open3d  # noqa: F401
        else:
            import embreex.rtcore_scene  # noqa: F401
    except ModuleNotFoundError as error:
        extra = "open3d" if backend is Backend.OPEN3D else "toytown"
        raise MissingExtraError(backend.value, extra, "toytown") from error
    except (ImportError, OSError) as error:
        other = next(b for b in Backend if b is not backend)
        raise UsageError(
            f"the package {backend.value} cannot be loaded ({error}): install the system library it names, "
            f"or take --backend {other}"
        ) from error
    return _Open3dCaster if backend is Backend.OPEN3D else _EmbreexCaster


class _EmbreexCaster:
    """One Embree scene. Embreex casts on one thread and frees the interpreter meanwhile: the rays are shared out."""

    def __init__(self, vertices: FloatArray, triangles: IntArray) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        # The scene does not hold the mesh: without this reference its buffers would be freed.
        self._mesh = TriangleMesh(
            self._scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(triangles, np.int32)
        )
        self._scene.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))  # builds the tree now, on one thread

    def cast(self, origins: FloatArray, directions: FloatArray) -> Hits:
        parts = self._shared(origins, directions, output=True)
        distance, triangle, u, v = (_joined([part[key] for part in parts]) for key in ("tfar", "primID", "u", "v"))
        distance[triangle == MISS] = np.inf
        return Hits(distance, triangle, np.stack([u, v], -1))

    def blocked(self, origins: FloatArray, directions: FloatArray, reach: float = np.inf) -> BoolArray:
        limit = {} if np.isinf(reach) else {"dists": np.float32(reach)}
        parts = self._shared(origins, directions, query="OCCLUDED", **limit)
        return np.asarray(_joined(parts) != MISS)

    def _shared(self, origins: FloatArray, directions: FloatArray, **query: Any) -> list[Any]:
        """The scene's answers, part by part of the rays."""
        count = len(directions)
        origins = np.ascontiguousarray(np.broadcast_to(origins, directions.shape), np.float32)
        directions = np.ascontiguousarray(directions, np.float32)
        if count < _LEAST_SHARED:
            return [self._scene.run(origins, directions, **query)]
        cuts = [count * part // _PARTS for part in range(_PARTS + 1)]
        parts = [slice(start, end) for start, end in itertools.pairwise(cuts)]
        return list(_POOL.map(lambda part: self._scene.run(origins[part], directions[part], **query), parts))


class _Open3dCaster:
    """One open3d scene."""

    def __init__(self, vertices: FloatArray, triangles: IntArray) -> None:
        import open3d

        self._tensor = open3d.core.Tensor.from_numpy
        self._scene = open3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            self._tensor(np.ascontiguousarray(vertices, np.float32)),
            self._tensor(np.ascontiguousarray(triangles, np.uint32)),
        )

    def cast(self, origins: FloatArray, directions: FloatArray) -> Hits:
        found = self._scene.cast_rays(self._rays(origins, directions))
        # What open3d returns is shared with its tensors; a miss is the largest uint32, which is -1 as int32.
        triangle = found["primitive_ids"].numpy().view(np.int32).copy()
        return Hits(found["t_hit"].numpy().copy(), triangle, found["primitive_uvs"].numpy().copy())

    def blocked(self, origins: FloatArray, directions: FloatArray, reach: float = np.inf) -> BoolArray:
        return np.asarray(self._scene.test_occlusions(self._rays(origins, directions), 0.0, float(reach)).numpy())

    def _rays(self, origins: FloatArray, directions: FloatArray) -> Any:
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3], rays[:, 3:] = origins, directions
        return self._tensor(rays)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
