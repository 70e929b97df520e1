"""The two doors, HTTP and gRPC, over one engine."""
