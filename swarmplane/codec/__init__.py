"""Between our values and protobuf bytes: the only place besides the edges that knows generated messages."""
