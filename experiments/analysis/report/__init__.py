"""One HTML file to look at results with: collect.py makes its data, page.py the file."""
