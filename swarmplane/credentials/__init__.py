"""Keys, certificates and join tokens of a swarm: who somebody is, and how others can be sure of it."""
