"""Inference servers of this host: where they are, whether they answer, which models they have."""
