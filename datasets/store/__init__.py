"""From recordings to prepared nights on disk, and from there to batches, folds and splits."""
