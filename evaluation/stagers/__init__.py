"""Everything that stages: models of ours, published weights by name, stagers of others, votes."""
