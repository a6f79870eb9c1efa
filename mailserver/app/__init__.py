"""The composition root: builds the parts from the configuration, starts and stops them."""
