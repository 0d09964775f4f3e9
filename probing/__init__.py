"""What embeddings hold: their files, linear probes, latent-space metrics, report and page."""
