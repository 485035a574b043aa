"""What the rules are: pure functions of samples and limits. No clock, no session, no settings in here."""
