"""CARLA: photoreal cameras beside its own. The client package ``carla`` is imported only when it is used."""
