"""Bundled tables and published architectures; provenance and licences are in NOTICE."""
