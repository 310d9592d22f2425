"""Where a run's time goes: kernel calls beside the machine's limits, as a trace, as a picture."""
