"""What IR text and pipeline text have in common: tokens with positions, and typed literals."""
