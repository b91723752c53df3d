"""What faults leave: kills at any moment, and files that are not what they should be."""
