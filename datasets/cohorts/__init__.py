"""Data without code: profiles of cohorts, channel names, exclusions, published folds, as JSON."""
