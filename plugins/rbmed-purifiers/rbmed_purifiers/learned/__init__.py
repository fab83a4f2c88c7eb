"""Purifiers that are trained and run in one pass, without diffusion."""
