"""Equipment and its zones, gateways, probes, and who was bound to what when."""
