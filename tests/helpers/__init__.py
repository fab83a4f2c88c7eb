"""What several test files share: toy parts, a whole toy plugin, runs of small grids, made-up boards."""
