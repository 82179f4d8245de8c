"""The loopback listener for operators: what this sidecar knows and does, and drains by hand."""
