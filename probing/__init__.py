"""What embeddings hold: linear probes, latent metrics, and their report and page."""
