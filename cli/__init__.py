"""``swarmctl``: the tool of people and scripts."""
