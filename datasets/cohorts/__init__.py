"""Data without code: where cohorts are, channel names, exclusions, published folds, as JSON."""
