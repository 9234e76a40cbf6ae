"""Networks, one a file; the operators that several share live one folder up."""
