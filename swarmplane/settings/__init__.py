"""Settings: one schema for every process of a host, and how it is loaded."""
