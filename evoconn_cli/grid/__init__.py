"""Many runs: the cells of a grid, what state they are in, and the places that run them."""
