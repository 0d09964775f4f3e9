"""Why a model gave a stage: explanations, what evaluates them, and their figures."""
