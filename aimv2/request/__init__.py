"""From a command line, and the weights to start from, to a resolved config."""
