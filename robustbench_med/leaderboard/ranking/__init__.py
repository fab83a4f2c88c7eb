"""Records -> rows -> entries -> ranked boards."""
