"""The console's listener: health, readiness and metrics of an instance."""
