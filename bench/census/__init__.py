"""Every model type of transformers, small: compiled and compared with eager in float64."""
