"""Tiny random-weight models of every family of Mixture-of-Experts models, each with its own configuration class."""
