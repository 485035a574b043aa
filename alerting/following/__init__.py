"""Following: the intake log, read in order, with what it leads to in one transaction with the cursor."""
