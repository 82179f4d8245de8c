"""Generated messages of stored values."""
