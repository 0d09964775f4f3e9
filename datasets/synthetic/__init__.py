"""Synthetic nights with the statistics of real sleep and known evidence, and their file formats."""
