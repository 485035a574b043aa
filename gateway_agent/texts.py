"""Texts of the agent: messages about mistakes in device profiles and in the settings of gateways."""

from config.catalogue import Catalogue

say = Catalogue("gateway_agent")
