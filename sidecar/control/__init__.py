"""The sidecar's end of the control stream: what this node says, and how it takes what it is told."""
