"""Stacked generalisation: scores of held-out folds, and the network that weighs them."""
