"""The report of a run: tables, figures, sentences, and the files that hold them."""
