"""From a checkpoint and nights to stages: scored, compared, exported, explained, put on a page."""
