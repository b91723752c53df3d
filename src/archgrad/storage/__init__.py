"""Write files of archgrad atomically, lock and seal them, and read them with checks."""
