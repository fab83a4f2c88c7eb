"""Records and per-image results: kept, read, compared, shown."""
