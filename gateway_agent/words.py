"""Texts of the agent: what is wrong with a device profile or with the settings of its gateways."""

from config.catalogue import Catalogue

say = Catalogue("gateway_agent")
