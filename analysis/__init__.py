"""From run folders to evidence: everything said comes from the recorded runs and the studies."""
