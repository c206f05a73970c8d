"""The report of a run: its tables, figures, sentences and files."""
