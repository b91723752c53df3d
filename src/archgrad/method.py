raise ImportError("moved to archgrad.search_method (archgrad.method is the function users call)")
