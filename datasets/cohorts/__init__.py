"""What is known of cohorts, declared as tables: channel names, exclusions and published folds."""
