"""From a command line to a resolved config."""
