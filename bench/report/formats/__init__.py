"""What tables and figures are written in: Markdown, LaTeX, CSV, JSON, HTML."""
