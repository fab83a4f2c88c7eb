"""One file per command of ``rbmed``."""
