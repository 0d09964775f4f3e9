"""From a store to a trained checkpoint: loop, resuming, flag groups, one file for each family."""
