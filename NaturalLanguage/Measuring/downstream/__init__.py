"""Context at inference: how the answers of a trained model depend on how much of the context it is shown (section
7)."""
