"""What goes in: readers (one per format), preparation, store, folds, views, synthetic nights."""
