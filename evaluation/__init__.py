"""A trained model on nights or files: opened, staged, embedded, scored, exported, reported."""
