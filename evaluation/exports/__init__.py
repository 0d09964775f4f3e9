"""Staged nights in the formats that other programs read, a file per kind of format."""
