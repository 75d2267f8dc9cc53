"""How results came about, for publication: setup, sources, costs, runs, methods, checklist and model cards."""
