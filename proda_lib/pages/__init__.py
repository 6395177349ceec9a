"""What a page of the book shows, one file a page: the tables and sentences that its notebook calls for."""
