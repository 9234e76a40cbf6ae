"""CARLA: photoreal cameras beside its own. The client package ``carla`` is imported only when it is used."""

from plugins.carla.camera import PhotorealCamera
from plugins.carla.link import BridgeLink
from plugins.carla.photoreal import PhotorealImage

__all__ = ["BridgeLink", "PhotorealCamera", "PhotorealImage"]
