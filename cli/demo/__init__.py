"""The demo: a swarm of two nodes on one machine."""
