"""Many trainings at once: searches for settings, and tables that set models beside each other."""
