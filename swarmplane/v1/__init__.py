"""Generated messages and stubs of the wire contract, package ``swarmplane.v1``."""
