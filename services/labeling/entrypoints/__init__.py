"""Ways in: the bus and gRPC."""
