"""Queue, batches, backends, ensemble: everything between a typed request and typed scores."""
