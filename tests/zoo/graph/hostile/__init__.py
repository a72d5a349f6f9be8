"""Small graphs that careless simplifiers change, and the judge who sees it."""
