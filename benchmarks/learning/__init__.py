"""Studies of learning: methods compared at equal environment steps and at equal training time."""
