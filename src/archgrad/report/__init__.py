"""What a run looks like: tables, pictures of cells, curves."""
