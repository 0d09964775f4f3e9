"""What all rooms share and nothing else."""
