"""One file for each format: from files as they come to a recording with its channels and stages."""
