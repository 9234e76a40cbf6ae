"""The bridge: frames in from a simulator, photoreal frames out, every frame with its identity.

The package's client side (:mod:`~sim_bridge.frames`, :mod:`~sim_bridge.wire`, :mod:`~sim_bridge.wire.transport`,
:mod:`~sim_bridge.client`) imports neither torch nor OpenCV.
"""

__version__ = "0.1.0"
