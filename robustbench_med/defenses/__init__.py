"""The deployed system: from a recipe and trained weights to a pipeline for each client."""
