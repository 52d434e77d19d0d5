"""What runs left behind: rows, cells of tables, statistics, figures."""
