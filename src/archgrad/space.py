raise ImportError("moved to archgrad.search_space (archgrad.space is the function users call)")
