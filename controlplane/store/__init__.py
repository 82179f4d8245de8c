"""The store: one contract (``port``) and its implementations."""
