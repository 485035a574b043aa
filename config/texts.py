"""Texts of the settings: their meanings, and the messages about mistakes in them."""

from config.catalogue import Catalogue

say = Catalogue("config")
