"""The graph IR: what is computed. Text, equality, verification and networkx views of it."""
