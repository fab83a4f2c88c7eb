"""The recipes: which parts, with which parameters. The parts themselves are plugins of their own."""
