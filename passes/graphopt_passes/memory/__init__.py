"""Memory: one arena for everything that lives while the model runs."""
