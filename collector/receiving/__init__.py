"""Receiving: messages of gateways are decoded, stamped, appended to the intake log and acknowledged."""
