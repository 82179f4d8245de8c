"""Generated messages of stored values, package ``swarmplane.store.v1``."""
