"""Texts of the demo, in the terminal's language."""

from config.catalogue import Catalogue

say = Catalogue("coldchain.demo")
