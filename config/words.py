"""Texts of the settings: what each means, and what is wrong with one."""

from config.catalogue import Catalogue

say = Catalogue("config")
