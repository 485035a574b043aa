"""Demo: a county with simulated devices, the services of one machine, and phones that receive the alarms."""
