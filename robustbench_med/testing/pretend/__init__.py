"""A CUDA device without a GPU: tensors that behave as on a device of their own, and report what would be slow there."""
