"""Trained purifiers of a single pass, without diffusion."""
