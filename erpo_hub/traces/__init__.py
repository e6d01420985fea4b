"""SEE: what a model did, token by token. Imports no other room."""
