"""What three or more rooms use: stages, errors, files, arguments, checkpoints, metrics, figures."""
