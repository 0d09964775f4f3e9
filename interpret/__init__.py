"""Why: pictures and explanations of what is in a night and what a model made of it."""
