"""Data without code: channel names, exclusions and published folds of the cohorts, as JSON."""
