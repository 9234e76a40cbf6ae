"""CARLA: photoreal cameras beside its own. The client package ``carla`` is imported only when it is used."""

from plugins.carla.camera import PhotorealCamera
from plugins.carla.rig.link import BridgeLink
from plugins.carla.rig.photoreal import PhotorealImage

__all__ = ["BridgeLink", "PhotorealCamera", "PhotorealImage"]
