"""What `robustbench_med.evaluate` returns: records as a list, a DataFrame, a table, plots and HTML."""
