"""Small pieces of text that every room shares."""
