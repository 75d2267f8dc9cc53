"""Reports as data, and their forms: Markdown, HTML, JSON, and tables in LaTeX."""
