"""The paper's claims: the page of all verdicts, the paper's tables beside ours, and the check of one claim."""
