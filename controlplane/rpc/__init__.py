"""The gRPC surface: decode, delegate, encode."""
