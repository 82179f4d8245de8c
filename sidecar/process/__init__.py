"""The sidecar as a process: its parts put together, started and stopped, and what it says about itself."""
