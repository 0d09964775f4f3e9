"""Shared by the other packages: stages, errors, files, arguments, checkpoints, metrics, figures."""
