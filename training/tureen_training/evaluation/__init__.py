"""What is known of a model: the same figures for a directory and for a running service."""
