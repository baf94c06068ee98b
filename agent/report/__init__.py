"""What people see: words, tables, a live view, plots, exports. Reads the store, writes nothing back."""
