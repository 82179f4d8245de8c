"""The control plane: who is there, who serves what, and the routes that follow."""
