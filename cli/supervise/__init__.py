"""``swarmctl up`` while it runs: the parent of a host's processes."""
