"""The data plane of a host: one endpoint for clients, its backends, and the hop to other hosts."""
