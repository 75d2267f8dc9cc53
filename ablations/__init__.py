"""Studies, one file each: question, source in the paper, baseline, arms, and the claims that they can decide."""
