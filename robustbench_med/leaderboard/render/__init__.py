"""Boards -> Markdown, CSV, JSON, LaTeX and the pages."""
