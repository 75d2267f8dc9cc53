"""The studies, one file each: question, source in the paper, baseline, arms, seeds, and the claims they can decide."""
