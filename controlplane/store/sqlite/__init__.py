"""What the embedded store is made of; only ``controlplane.store.embedded`` uses it."""
