"""Files of trunk weights: reading them, the layouts of other libraries, position tables."""
