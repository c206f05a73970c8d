"""Parts of a submission folder, copied as they are: they need torch and the method's libraries."""
