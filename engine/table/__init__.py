"""A paper's table of results, fitted and measured anew beside the paper's own figures."""
