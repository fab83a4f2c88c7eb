"""Data sets for robustbench-med: a simulated brain-MRI federation and loaders for real images."""

__version__ = "0.1.0"
