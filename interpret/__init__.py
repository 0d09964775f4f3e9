"""Why a model gave a stage: explanation methods, their flags, their evaluation, their figures."""
