"""One life of an instance: its parts, put together, run and stopped in order."""
