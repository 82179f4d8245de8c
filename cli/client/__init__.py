"""Talking to the control plane and to this host's own listeners."""
