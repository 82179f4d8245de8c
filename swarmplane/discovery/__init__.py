"""Finding swarms and their members on the local network."""
