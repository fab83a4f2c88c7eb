"""A plugin to copy: one component of every kind."""
