"""Classical image processing: deterministic purifiers without training."""
