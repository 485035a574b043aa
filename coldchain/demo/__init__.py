"""A county to try everything with: simulated devices, one machine's services, and phones to read the alarms on."""
