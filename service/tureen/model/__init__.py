"""The trained object and its file format (torch). Shared by training and serving."""
