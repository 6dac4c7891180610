"""Tests; a package so that `tests.synthetic` cannot be mistaken for an installed package of that name."""
