"""Hyper-parameter searches with Optuna."""
