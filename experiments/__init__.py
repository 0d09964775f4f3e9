"""Many trainings at once: tables over folds and seeds, and the search for settings."""
