"""Why a model gave a stage: methods with their flags, what evaluates and controls them, figures."""
