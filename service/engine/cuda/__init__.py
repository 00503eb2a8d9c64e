"""How networks run on a GPU: copies beside computing, passes as graphs, and with what rounding."""
