"""What embeddings hold: their arrays, linear probes, latent metrics, their report and page."""
