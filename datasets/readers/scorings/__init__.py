"""Scorings as sleep laboratories export them, recognised by content and placed on 30 s epochs."""
