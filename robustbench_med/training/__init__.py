"""Training of defenses, once for each configuration, and plots of it."""
