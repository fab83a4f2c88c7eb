"""Training of defenses, once for each configuration, and the pictures of it."""
