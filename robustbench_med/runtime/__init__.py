"""Running models: batch sizes, memory, speed, cached results, isolated random state."""
