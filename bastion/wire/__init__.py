"""Bytes to events and back, without any I/O; used by pods, localcluster, recorder and cli."""
