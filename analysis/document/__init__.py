"""Reports as data, and their forms: Markdown, HTML, LaTeX, JSON."""
