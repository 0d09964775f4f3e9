"""Stub to be written."""
