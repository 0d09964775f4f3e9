"""What is minimised: an objective takes a model and a batch and returns a loss and what to log."""
