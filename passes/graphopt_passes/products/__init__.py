"""Products: matrix products brought into the shape that fuses best."""
