"""Files as they come, a module per format: channels matched, experts' stages read, downloads."""
