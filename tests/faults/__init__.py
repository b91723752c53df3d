"""These tests kill commands at any moment and damage their files."""
