raise ImportError("moved to archgrad.loop (archgrad.search is the function users call)")
