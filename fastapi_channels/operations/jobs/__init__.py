"""Jobs: what is run by the clock, once over all processes."""
