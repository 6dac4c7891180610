"""Probing: what a model's layers show of tokens, routing and attention, without changing one logit."""
